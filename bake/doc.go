// Package bake is how an image is made from a source image's snapshot, in
// order, without knowing of Packer or of any cloud's SDK.
package bake
