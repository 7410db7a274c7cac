package cloudtest

// A callMode is a way to make a call: it is made several times, each after prepare.
type callMode struct {
	times   int
	prepare func(*fixture)
}

var (
	once  = callMode{times: 1, prepare: func(*fixture) {}}
	twice = callMode{times: 2, prepare: func(*fixture) {}}
)

// failing makes the first request of every call fail.
func failing(env Env, fault Fault) callMode {
	return callMode{times: 1, prepare: func(f *fixture) { env.Fail(f.t, f.cloud, fault) }}
}

// create makes a creating call in a mode, and returns the resource that it created.
func create[T comparable](f *fixture, mode callMode, what string, call func() (T, error)) T {
	f.t.Helper()
	var made T
	for i := range mode.times {
		mode.prepare(f)
		id, err := call()
		if err != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
		if i > 0 && id != made {
			f.t.Errorf("%s again made %v, beside %v", what, id, made)
		}
		made = id
	}
	return made
}

// act makes any other call in a mode.
func act(f *fixture, mode callMode, what string, call func() error) {
	f.t.Helper()
	for range mode.times {
		mode.prepare(f)
		if err := call(); err != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
	}
}
