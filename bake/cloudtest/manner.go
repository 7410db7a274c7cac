package cloudtest

// A manner is a way to make a call; times calls are made, each after prepare.
type manner struct {
	times   int
	prepare func(*stage)
}

var (
	once  = manner{times: 1, prepare: func(*stage) {}}
	twice = manner{times: 2, prepare: func(*stage) {}}
)

// failing makes the first request of every call fail.
func failing(env Env, fault Fault) manner {
	return manner{times: 1, prepare: func(s *stage) { env.Fail(s.t, s.cloud, fault) }}
}

// create makes a creating call in a manner, and returns the resource that it created.
func create[T comparable](s *stage, how manner, what string, call func() (T, error)) T {
	s.t.Helper()
	var made T
	for i := range how.times {
		how.prepare(s)
		id, err := call()
		if err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
		if i > 0 && id != made {
			s.t.Errorf("%s again made %v, beside %v", what, id, made)
		}
		made = id
	}
	return made
}

// act makes any other call in a manner.
func act(s *stage, how manner, what string, call func() error) {
	s.t.Helper()
	for range how.times {
		how.prepare(s)
		if err := call(); err != nil {
			s.t.Fatalf("%s: %v", what, err)
		}
	}
}
