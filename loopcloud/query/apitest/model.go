package apitest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
)

// Model is the model of both APIs.
type Model struct {
	services map[string]*service // by API version
	mu       sync.Mutex
	calls    map[string]*call // by API version and name
}

// service is one API.
type service struct {
	name string
	// strict validates its input, lenient does not. Both are *Client of the SDK.
	strict, lenient any
	limits          limits
	docs            *docs
}

// Load returns the model. It is loaded once in a process.
var Load = sync.OnceValues(func() (*Model, error) {
	m := &Model{services: map[string]*service{
		"2016-11-15": {name: "ec2", strict: newEC2(), lenient: newEC2(withoutValidation)},
		"2011-06-15": {name: "sts", strict: newSTS(), lenient: newSTS(withoutValidation)},
	}, calls: map[string]*call{}}
	for version, s := range m.services {
		var err error
		if s.limits, err = loadLimits(s.name, version); err != nil {
			return nil, err
		}
		if s.docs, err = loadDocs(s.name); err != nil {
			return nil, err
		}
	}
	return m, nil
})

// nowhere is the endpoint of clients that send nothing.
const nowhere = "http://model.invalid"

func newEC2(more ...func(*middleware.Stack) error) any {
	return ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(nowhere), Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: wire{}, IdempotencyTokenProvider: noToken{}, APIOptions: more,
	})
}

func newSTS(more ...func(*middleware.Stack) error) any {
	return sts.New(sts.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(nowhere), Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{},
		HTTPClient: wire{}, APIOptions: more,
	})
}

// withoutValidation lets a client send a request without required members.
func withoutValidation(stack *middleware.Stack) error {
	const id = "OperationInputValidation"
	if _, ok := stack.Initialize.Get(id); !ok {
		return nil // nothing is required
	}
	_, err := stack.Initialize.Remove(id)
	return err
}

// noToken prevents the SDK from adding a random token.
type noToken struct{}

func (noToken) GetIdempotencyToken() (string, error) { return "", nil }

// call is one call of an API.
type call struct {
	*service
	name string
	// input is the SDK's type of its parameters.
	input reflect.Type
	// params are its parameters, by name with N for each number.
	params map[string]param

	mu sync.Mutex
	// elements caches which paths of elements in responses are known.
	elements map[string]bool
}

// call returns a call of an API version with its parameters.
func (m *Model) call(version, name string) (*call, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := version + " " + name
	if c, ok := m.calls[key]; ok {
		return c, nil
	}
	s, ok := m.services[version]
	if !ok {
		return nil, fmt.Errorf("no API has the version %q", version)
	}
	method := reflect.ValueOf(s.lenient).MethodByName(name)
	if !method.IsValid() || method.Type().NumIn() != 3 {
		return nil, fmt.Errorf("the API of %s has no call %q", s.name, name)
	}
	c := &call{service: s, name: name, input: method.Type().In(1).Elem(), elements: map[string]bool{}}
	var err error
	if c.params, err = c.learn(); err != nil {
		return nil, fmt.Errorf("cannot learn the parameters of %s: %w", name, err)
	}
	m.calls[key] = c
	return c, nil
}

// invoke makes the call with a client of the SDK over an exchange, and returns its output.
func (c *call) invoke(client any, input reflect.Value, e *exchange) (any, error) {
	ctx := context.WithValue(context.Background(), exchangeKey{}, e)
	results := reflect.ValueOf(client).MethodByName(c.name).Call([]reflect.Value{reflect.ValueOf(ctx), input})
	err, _ := results[1].Interface().(error)
	return results[0].Interface(), err
}

// form returns the form that the SDK would send for an input.
func (c *call) form(client any, input reflect.Value) (url.Values, error) {
	e := &exchange{status: http.StatusOK}
	if _, err := c.invoke(client, input, e); err != nil && e.form == nil {
		return nil, err
	}
	for _, name := range []string{"Action", "Version"} {
		e.form.Del(name)
	}
	return e.form, nil
}

// number returns a parameter's name with N for each number in it.
func number(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if p != "" && strings.Trim(p, "0123456789") == "" {
			parts[i] = "N"
		}
	}
	return strings.Join(parts, ".")
}
