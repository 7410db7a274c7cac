package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
)

//go:embed page.html.tmpl
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": clock, "percent": percent, "plural": plural, "latency": latency,
}).Parse(pageText))

// Page returns the report as an HTML page without scripts that needs no other file.
func (r Report) Page() ([]byte, error) {
	var out bytes.Buffer
	err := page.Execute(&out, view{Report: r, Timeline: r.draw()})
	return out.Bytes(), err
}

// view is the data of the page.
type view struct {
	Report
	Timeline picture
}

// CallCount returns the number of attempts of all calls, and FailedCalls how many of them have failed.
func (v view) CallCount() int { all, _ := v.calls(); return all }

// FailedCalls is described at CallCount.
func (v view) FailedCalls() int { _, failed := v.calls(); return failed }

// Moved returns the transferred data; empty if there was none.
func (v view) Moved() string { return v.movedLine() }

// The measures of the picture, in pixels.
const (
	leftWidth   = 110
	chartWidth  = 1050
	laneHeight  = 22
	bandGap     = 14
	axisHeight  = 24
	letterWidth = 6.4
	leastWidth  = 1.5
)

// picture is the timeline as it is drawn.
type picture struct {
	Width, Height, Left int
	Ticks               []tick
	Bands               []drawnBand
	Parts               []part
}

type tick struct {
	X     float64
	Label string
}

type drawnBand struct {
	Name    string
	Y, Text int
	Height  int
	Bars    []drawnBar
	Omitted int
}

type drawnBar struct {
	X, Width float64
	Y        int
	Height   int
	Class    string
	// Label is the name, as far as there is room for it, and TextX and TextY its place.
	Label   string
	TextX   float64
	TextY   int
	Tooltip string
}

// part is a part of the division of the time.
type part struct {
	Name, Class string
	Seconds     float64
	Percent     float64
}

// draw places the bars of the timeline.
func (r Report) draw() picture {
	p := picture{Width: leftWidth + chartWidth + 20, Left: leftWidth, Parts: r.Division.parts(r.Seconds)}
	whole := math.Max(r.Seconds, 0.001)
	x := func(s float64) float64 { return leftWidth + s/whole*chartWidth }
	p.Ticks = ticks(whole, x)
	y := axisHeight
	for _, b := range r.bands() {
		d := drawnBand{Name: b.name, Y: y, Text: y + laneHeight - 7, Height: b.lanes * laneHeight, Omitted: b.omitted}
		for _, one := range b.bars {
			d.Bars = append(d.Bars, one.draw(b.name, y, x))
		}
		p.Bands = append(p.Bands, d)
		y += d.Height + bandGap
	}
	p.Height = y
	return p
}

// draw places a bar in a band that begins at y.
func (b bar) draw(band string, y int, x func(float64) float64) drawnBar {
	d := drawnBar{X: round1(x(b.Begin)), Y: y + b.lane*laneHeight + 2, Height: laneHeight - 4, Tooltip: b.tooltip()}
	d.Width = round1(math.Max(x(b.End)-x(b.Begin), leastWidth))
	d.Class = strings.ReplaceAll(strings.ToLower(band), " ", "-")
	if b.users {
		d.Class = "provisioners"
	}
	if b.Error != "" {
		d.Class = "failed"
	}
	if letters := int((d.Width - 6) / letterWidth); letters >= 4 {
		d.Label, d.TextX, d.TextY = shorten(b.name, letters), d.X+4, d.Y+laneHeight-9
	}
	return d
}

// tooltip returns the description of a bar.
func (b bar) tooltip() string {
	lines := []string{b.name, fmt.Sprintf("%s, from %s to %s", latency(b.End-b.Begin), latency(b.Begin), latency(b.End))}
	lines = append(lines, b.details...)
	if b.Step != "" {
		lines = append(lines, "step: "+b.Step)
	}
	if b.Error != "" {
		lines = append(lines, "failed: "+b.Error)
	}
	return strings.Join(lines, "\n")
}

// shorten shortens a text to a number of letters.
func shorten(text string, letters int) string {
	runes := []rune(text)
	if len(runes) <= letters {
		return text
	}
	return string(runes[:letters-1]) + "…"
}

// mostTicks is the maximum number of marks on the axis.
const mostTicks = 12

// ticks returns the marks of the axis: whole seconds, minutes or hours, a readable number of them.
func ticks(whole float64, x func(float64) float64) (all []tick) {
	step := 0.1
	for _, next := range []float64{0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400} {
		if whole/step <= mostTicks {
			break
		}
		step = next
	}
	for at := 0.0; at <= whole && len(all) <= 2*mostTicks; at += step {
		all = append(all, tick{round1(x(at)), clock(round3(at))})
	}
	return all
}

// parts returns the parts of the division that are not empty.
func (d Division) parts(whole float64) (all []part) {
	for _, p := range []part{
		{Name: "the cloud: calls, and waits for it", Class: "waits", Seconds: d.Cloud},
		{Name: "provisioners, and commands of the template", Class: "provisioners", Seconds: d.Provisioners},
		{Name: "pauses (-debug)", Class: "pauses", Seconds: d.Pauses},
		{Name: "the builder: mounting, unmounting, copying, flushing", Class: "steps", Seconds: d.Builder},
	} {
		if p.Seconds > 0 {
			p.Percent = round1(100 * p.Seconds / math.Max(whole, 0.001))
			all = append(all, p)
		}
	}
	return all
}

// latency returns a short time for a reader.
func latency(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.0f ms", s*1000)
	}
	return clock(s)
}

func percent(part, whole float64) string {
	return fmt.Sprintf("%.0f%%", 100*part/math.Max(whole, 0.001))
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }
