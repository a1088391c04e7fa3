package wafake

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// T is what Start needs of a *testing.T.
type T interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
}

// Start starts a network for a test, which ends with it.
func Start(t T) *Server {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// fields are the names of a message's fields that are set.
func fields(m proto.Message) []string {
	var out []string
	m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		out = append(out, string(f.Name()))
		return true
	})
	return out
}
