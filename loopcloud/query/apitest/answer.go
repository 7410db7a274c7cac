package apitest

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
)

// node is an element of a response.
type node struct {
	XMLName xml.Name
	Text    string `xml:",chardata"`
	Nodes   []node `xml:",any"`
}

// Answer returns an error if a response does not conform to the model.
func (m *Model) Answer(version, name string, status int, body []byte) error {
	c, err := m.call(version, name)
	if err == nil {
		err = c.answer(status, body)
	}
	if err != nil {
		return fmt.Errorf("response %d to %s: %w", status, name, err)
	}
	return nil
}

func (c *call) answer(status int, body []byte) error {
	out, err := c.read(status, body)
	var refused smithy.APIError
	switch {
	case status != http.StatusOK && errors.As(err, &refused) && refused.ErrorCode() != "" && refused.ErrorCode() != "UnknownError":
		return nil
	case err != nil:
		return err
	case status != http.StatusOK:
		return errors.New("it has no code")
	}
	var root node
	if err := xml.Unmarshal(body, &root); err != nil {
		return err
	}
	if want := c.name + "Response"; root.XMLName.Local != want {
		return fmt.Errorf("its root is %s, not %s", root.XMLName.Local, want)
	}
	return errors.Join(enumerations(reflect.ValueOf(out)), c.known(root, []string{root.XMLName.Local}))
}

// read decodes a response with the SDK.
func (c *call) read(status int, body []byte) (any, error) {
	return c.invoke(c.lenient, reflect.New(c.input), &exchange{status: status, answer: body})
}

// envelope are the elements of responses that are not part of their output. EC2 has return in the
// responses of calls without output.
var envelope = []string{"requestId", "return", "ResponseMetadata"}

// known returns an error for each element below a node that the SDK ignores.
func (c *call) known(n node, path []string) error {
	var wrong []error
	for _, below := range n.Nodes {
		name := below.XMLName.Local
		if len(path) == 1 && slices.Contains(envelope, name) {
			continue
		}
		at := append(slices.Clone(path), name)
		if len(below.Nodes) > 0 {
			wrong = append(wrong, c.known(below, at))
			continue
		}
		if ok, err := c.notices(at, below.Text); !ok {
			wrong = append(wrong, fmt.Errorf("it has the element %s, which the API does not: %w", strings.Join(at[1:], "/"), err))
		}
	}
	return errors.Join(wrong...)
}

var errPassedOver = errors.New("it is passed over")

// notices reports whether the SDK decodes the element at a path: whether a response with it
// differs from one without.
func (c *call) notices(path []string, text string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.Join(path, "/")
	if known, ok := c.elements[key]; ok {
		return known, errPassedOver
	}
	with, err := c.read(http.StatusOK, chain(path, text))
	if err != nil {
		return false, err
	}
	without, err := c.read(http.StatusOK, chain(path[:len(path)-1], ""))
	if err != nil {
		return false, err
	}
	c.elements[key] = !reflect.DeepEqual(output(with), output(without))
	return c.elements[key], errPassedOver
}

// output returns an output without the additions of the SDK.
func output(out any) any {
	v := reflect.ValueOf(out).Elem()
	if m := v.FieldByName("ResultMetadata"); m.IsValid() {
		m.SetZero()
	}
	return v.Interface()
}

// chain returns a document of nested elements.
func chain(path []string, text string) []byte {
	var b strings.Builder
	for _, name := range path {
		b.WriteString("<" + name + ">")
	}
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	for _, name := range slices.Backward(path) {
		b.WriteString("</" + name + ">")
	}
	return []byte(b.String())
}

// enumerations returns an error for each value in an output that is not in its enumeration.
func enumerations(v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return enumerations(v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != timeType:
		var wrong []error
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				wrong = append(wrong, enumerations(v.Field(i)))
			}
		}
		return errors.Join(wrong...)
	case v.Kind() == reflect.Slice:
		var wrong []error
		for i := range v.Len() {
			wrong = append(wrong, enumerations(v.Index(i)))
		}
		return errors.Join(wrong...)
	case v.Kind() == reflect.String && v.String() != "":
		if all := enumeration(v); all != nil && !slices.Contains(all, v.String()) {
			return fmt.Errorf("%q is no %s, which is one of %q", v.String(), v.Type().Name(), all)
		}
	}
	return nil
}
