package ebsdirect

import (
	"context"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// SetPage sets the number of blocks in a list, at least 100.
func (s *Source) SetPage(n int32) { s.page = n }

// DropToken forgets the token of a block.
func (s *Source) DropToken(index int64) { delete(s.tokens.all, index) }

// Read reads a block as an Upload without a parent does.
func (s *Source) Read(ctx context.Context, index int64, p []byte) (block.Sum, error) {
	return s.read(ctx, index, p)
}

// Size returns how many requests may be under way.
func (c *Client) Size() int { return int(c.window.size) }

// DecodeSum decodes the checksum in a response.
var DecodeSum = decodeSum

// Operations is the table of retry rules.
var Operations = operations

// Calls returns the names of the operations that are called.
func Calls() (names []string) {
	for i := range reflect.TypeFor[calls]().NumField() {
		names = append(names, reflect.TypeFor[calls]().Field(i).Name)
	}
	return names
}

// Algorithm is the algorithm of a checksum.
type Algorithm = types.ChecksumAlgorithm
