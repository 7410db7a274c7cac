package builder

import (
	"fmt"
	"log"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/report"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// checkReport returns an error if the report cannot be written.
func (c *Config) checkReport() error {
	if c.Report == "" {
		return nil
	}
	if err := report.Check(c.Report); err != nil {
		return fmt.Errorf("report is %q, and cannot be written: %w", c.Report, err)
	}
	return nil
}

// checkReportName returns an error if the path of the report is wrong on every host.
func (c *Config) checkReportName() []error {
	if c.Report == "" {
		return nil
	}
	if err := report.CheckName(c.Report); err != nil {
		return []error{fmt.Errorf("report: %w", err)}
	}
	return nil
}

// reportBuild prints the summary of a build that has ended, and writes its report if the user wants that. A
// report that cannot be written does not fail the build.
func (r *run) reportBuild(artifact *Artifact, failure error) report.Report {
	all, err := r.recorder.Report(r.info(), artifact.images(), failure).Redacted(Redact)
	if err != nil {
		r.report.Warn("cannot report the build: %v", err)
		return all
	}
	for i, line := range all.Summary() {
		if i == 0 {
			r.report.Step("%s", line)
		} else {
			r.report.Detail("%s", line)
		}
	}
	if r.Config.Report != "" {
		if err := all.Write(r.Config.Report); err != nil {
			r.report.Warn("cannot write the report: %v", err)
		} else {
			r.report.Detail("the report is %s", r.Config.Report)
		}
	}
	return all
}

// reportText returns the report as JSON.
func (a *Artifact) reportText() string {
	text, err := a.report.JSON()
	if err != nil {
		log.Printf("cannot encode the report: %v", err)
	}
	return string(text)
}

// labels returns the figures of the report for HCP Packer's registry.
func (a *Artifact) labels() map[string]string {
	labels := map[string]string{"build_seconds": strconv.FormatFloat(a.report.Seconds, 'f', 1, 64)}
	if p := a.report.Packages; p != nil && p.Compared {
		labels["packages_added"] = strconv.Itoa(len(p.Added))
		labels["packages_removed"] = strconv.Itoa(len(p.Removed))
		labels["packages_changed"] = strconv.Itoa(len(p.Changed))
	}
	return labels
}

func (r *run) info() report.Info {
	return report.Info{
		Program: r.Type, Version: version.Plugin.String(), Build: string(r.id), Name: r.Packer.PackerBuildName, ImageName: r.ImageName,
	}
}

// images returns the images for the report; none for a build that has failed.
func (a *Artifact) images() []report.Image {
	if a == nil {
		return nil
	}
	var all []report.Image
	for _, p := range a.products {
		image := report.Image{Region: p.Region, ID: string(p.Image), Snapshots: []string{}}
		for _, id := range p.Snapshots {
			image.Snapshots = append(image.Snapshots, string(id))
		}
		all = append(all, image)
	}
	return all
}
