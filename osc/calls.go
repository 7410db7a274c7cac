package osc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// operation is the name of one call of the API, as in its URL, with the types of its request and
// response.
//
// The SDK has a method for each, and they are not used, for the size of the
// plugin: Go's linker keeps every method of a type that can be reached through an
// interface, and the SDK's client is made of one. Its methods are 3 MB.
type operation[Req, Resp any] string

// The operations that a build makes. docs/eim-policy-osc.md is the permission for
// exactly these.
const (
	createImage    operation[api.CreateImageRequest, api.CreateImageResponse]       = "CreateImage"
	createSnapshot operation[api.CreateSnapshotRequest, api.CreateSnapshotResponse] = "CreateSnapshot"
	createTags     operation[api.CreateTagsRequest, api.CreateTagsResponse]         = "CreateTags"
	createVolume   operation[api.CreateVolumeRequest, api.CreateVolumeResponse]     = "CreateVolume"
	deleteImage    operation[api.DeleteImageRequest, api.DeleteImageResponse]       = "DeleteImage"
	deleteSnapshot operation[api.DeleteSnapshotRequest, api.DeleteSnapshotResponse] = "DeleteSnapshot"
	deleteVolume   operation[api.DeleteVolumeRequest, api.DeleteVolumeResponse]     = "DeleteVolume"
	linkVolume     operation[api.LinkVolumeRequest, api.LinkVolumeResponse]         = "LinkVolume"
	readAccounts   operation[api.ReadAccountsRequest, api.ReadAccountsResponse]     = "ReadAccounts"
	readImages     operation[api.ReadImagesRequest, api.ReadImagesResponse]         = "ReadImages"
	readRegions    operation[api.ReadRegionsRequest, api.ReadRegionsResponse]       = "ReadRegions"
	readSnapshots  operation[api.ReadSnapshotsRequest, api.ReadSnapshotsResponse]   = "ReadSnapshots"
	readVMs        operation[api.ReadVmsRequest, api.ReadVmsResponse]               = "ReadVms"
	readVolumes    operation[api.ReadVolumesRequest, api.ReadVolumesResponse]       = "ReadVolumes"
	unlinkVolume   operation[api.UnlinkVolumeRequest, api.UnlinkVolumeResponse]     = "UnlinkVolume"
	updateImage    operation[api.UpdateImageRequest, api.UpdateImageResponse]       = "UpdateImage"
	updateSnapshot operation[api.UpdateSnapshotRequest, api.UpdateSnapshotResponse] = "UpdateSnapshot"
)

// call makes a call under the client's policy of making calls again.
func (o operation[Req, Resp]) call(ctx context.Context, c *Client, req Req) (*Resp, error) {
	var got *Resp
	err := c.do(ctx, string(o), func(ctx context.Context) (err error) {
		got, err = o.once(ctx, c, req)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", string(o), err)
	}
	return got, nil
}

// once makes a call once, signed now, which is an event.
func (o operation[Req, Resp]) once(ctx context.Context, c *Client, req Req) (*Resp, error) {
	begun := time.Now()
	got, id, err := o.send(ctx, c, req)
	attempt, pause := retry.AttemptOf(ctx, string(o))
	event.Emit(ctx, event.Call{
		Service: service, Action: string(o), RequestID: id, Attempt: attempt, Pause: pause, Took: time.Since(begun), Err: err,
	})
	return got, err
}

// send makes a call once, and also returns the API's id of the request.
func (o operation[Req, Resp]) send(ctx context.Context, c *Client, req Req) (got *Resp, id string, err error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, "", err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, c.access.Endpoint+"/"+string(o), bytes.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("User-Agent", "packer-plugin-osc-chroot/"+c.version)
	resp, err := c.transport.RoundTrip(post)
	var no *refusal
	switch {
	case errors.As(err, &no):
		return nil, no.RequestID, err
	case err != nil:
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, "", err
	}
	got = new(Resp)
	if err := json.Unmarshal(withoutNulls(text), got); err != nil {
		return nil, "", fmt.Errorf("the answer cannot be read: %w", err)
	}
	return got, requestID(ctx, text), nil
}

// requestID is the API's id of an answered request. It is only looked for if somebody
// listens.
func requestID(ctx context.Context, answer []byte) string {
	var told struct {
		ResponseContext struct {
			RequestID string `json:"RequestId"`
		}
	}
	if !event.Heard(ctx) || json.Unmarshal(answer, &told) != nil {
		return ""
	}
	return told.ResponseContext.RequestID
}

// withoutNulls removes the null elements of all lists in a JSON text: the SDK's types
// would make empty things of them. A text that is not JSON stays as it is.
func withoutNulls(text []byte) []byte {
	if !bytes.Contains(text, []byte("null")) {
		return text
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil || dec.More() {
		return text
	}
	less, err := json.Marshal(prune(tree))
	if err != nil {
		return text
	}
	return less
}

// prune removes the null elements of the lists in a JSON value.
func prune(value any) any {
	switch value := value.(type) {
	case []any:
		some := slices.DeleteFunc(value, func(element any) bool { return element == nil })
		for i := range some {
			some[i] = prune(some[i])
		}
		return some
	case map[string]any:
		for key := range value {
			value[key] = prune(value[key])
		}
	}
	return value
}
