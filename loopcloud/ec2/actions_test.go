package ec2_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
)

// call sends an action with parameters.
func (b *box) call(action string, params url.Values) (status int, body string) {
	b.Helper()
	params.Set("Action", action)
	params.Set("Version", "2016-11-15")
	status, body, _ = b.send(b.request(http.MethodPost, params.Encode()))
	return status, body
}

// TestUnknownFilters sends an unknown filter to every action with filters.
func TestUnknownFilters(t *testing.T) {
	b := newBox(t)
	tested := 0
	for _, action := range ec2.Actions() {
		if !ec2.Parameters(action).Has("Filter.1.Name") {
			continue
		}
		tested++
		params := ec2.RequiredParameters(action)
		params.Set("Filter.1.Name", "colour")
		params.Set("Filter.1.Value.1", "red")
		status, body := b.call(action, params)
		if status != http.StatusBadRequest || !strings.Contains(body, "<Code>InvalidParameterValue</Code><Message>The filter &#39;colour&#39; is invalid</Message>") {
			t.Errorf("%s: got %d %s", action, status, body)
		}
	}
	if tested < 8 {
		t.Errorf("only %d actions have filters", tested)
	}
}

// TestUnknownParameters sends the required parameters and an unknown one to every action.
func TestUnknownParameters(t *testing.T) {
	b := newBox(t)
	for _, action := range ec2.Actions() {
		params := ec2.RequiredParameters(action)
		params.Set("Colour", "red")
		status, body := b.call(action, params)
		if status != http.StatusBadRequest || !strings.Contains(body, "<Code>UnknownParameter</Code><Message>The parameter Colour is not recognized<") {
			t.Errorf("%s: got %d %s", action, status, body)
		}
	}
}

// TestMissingParameters omits each required parameter of every action.
func TestMissingParameters(t *testing.T) {
	b := newBox(t)
	for _, action := range ec2.Actions() {
		for missing := range ec2.RequiredParameters(action) {
			params := ec2.RequiredParameters(action)
			params.Del(missing)
			list, _, _ := strings.Cut(missing, ".1")
			status, body := b.call(action, params)
			if status != http.StatusBadRequest || !strings.Contains(body, "<Code>MissingParameter</Code><Message>The request must contain the parameter "+list+"<") {
				t.Errorf("%s without %s: got %d %s", action, missing, status, body)
			}
		}
	}
}

// TestParametersOfTheModel: the model of the API has every action, and every parameter that it
// accepts. The sample values need not be valid.
func TestParametersOfTheModel(t *testing.T) {
	model, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range ec2.Actions() {
		params := ec2.Parameters(action)
		params.Set("Action", action)
		params.Set("Version", "2016-11-15")
		params.Del("DestinationRegion") // the SDK sets it itself
		if err := model.Request(params); err != nil {
			for line := range strings.Lines(err.Error()) {
				if strings.Contains(line, "has no") {
					t.Errorf("%s: %s", action, line)
				}
			}
		}
	}
}
