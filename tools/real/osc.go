//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"
)

// oscCloud implements cloud for one account in one region of Outscale.
type oscCloud struct {
	client *osc.Client
	region string
}

func dialOSC(context.Context) (cloud, error) {
	region := os.Getenv("OSC_REGION")
	p := &profile.Profile{AccessKey: os.Getenv("OSC_ACCESS_KEY"), SecretKey: os.Getenv("OSC_SECRET_KEY"), Region: region}
	p.Endpoints.API = os.Getenv("OSC_ENDPOINT_API")
	client, err := osc.NewClient(p, options.WithoutLogging(), options.WithoutRetry(), options.WithoutRatelimit())
	if err != nil {
		return nil, err
	}
	return &oscCloud{client, region}, nil
}

func (o *oscCloud) account(ctx context.Context) (string, error) {
	out, err := o.client.ReadAccounts(ctx, osc.ReadAccountsRequest{})
	if err != nil {
		return "", err
	}
	for _, a := range value(out.Accounts) {
		return value(a.AccountId), nil
	}
	return "", errors.New("the API returned no account")
}

// value returns the value of a pointer, or the zero value if it is nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (o *oscCloud) image(ctx context.Context, region, id string) (any, string, error) {
	out, err := o.client.ReadImages(ctx, osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageIds: &[]string{id}}})
	if err != nil {
		return nil, "", err
	}
	for _, i := range value(out.Images) {
		for _, m := range value(i.BlockDeviceMappings) {
			if m.Bsu != nil && m.Bsu.SnapshotId != nil {
				return i, *m.Bsu.SnapshotId, nil
			}
		}
	}
	return nil, "", fmt.Errorf("image %s in %s is not there, or has no snapshot", id, region)
}

func (o *oscCloud) snapshot(ctx context.Context, region, id string) (any, error) {
	out, err := o.client.ReadSnapshots(ctx, osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{id}}})
	if err != nil {
		return nil, err
	}
	for _, s := range value(out.Snapshots) {
		return s, nil
	}
	return nil, fmt.Errorf("snapshot %s in %s is not there", id, region)
}

func (o *oscCloud) tagged(ctx context.Context, run string) ([]resource, error) {
	tags := &[]string{runTag + "=" + run}
	var all []resource
	images, err := o.client.ReadImages(ctx, osc.ReadImagesRequest{Filters: &osc.FiltersImage{Tags: tags}})
	if err != nil {
		return nil, err
	}
	for _, i := range value(images.Images) {
		all = append(all, resource{"image", i.ImageId, o.region, ""})
	}
	snapshots, err := o.client.ReadSnapshots(ctx, osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{Tags: tags}})
	if err != nil {
		return nil, err
	}
	for _, s := range value(snapshots.Snapshots) {
		all = append(all, resource{"snapshot", s.SnapshotId, o.region, ""})
	}
	volumes, err := o.client.ReadVolumes(ctx, osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{Tags: tags}})
	if err != nil {
		return nil, err
	}
	for _, v := range value(volumes.Volumes) {
		if v.State != osc.VolumeStateDeleting {
			all = append(all, resource{"volume", v.VolumeId, o.region, linked(v)})
		}
	}
	return all, nil
}

func linked(v osc.Volume) string {
	if v.State == osc.VolumeStateInUse {
		return attached
	}
	return ""
}

func (o *oscCloud) remove(ctx context.Context, t resource) error {
	var err error
	switch {
	case t.state == attached:
		return errors.New("it is linked to a VM: unmount and unlink it, and clean up again")
	case t.kind == "image":
		_, err = o.client.DeleteImage(ctx, osc.DeleteImageRequest{ImageId: t.id})
	case t.kind == "snapshot":
		_, err = o.client.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: t.id})
	case t.kind == "volume":
		_, err = o.client.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: t.id})
	}
	if osc.IsNotFound(err) {
		return nil
	}
	return err
}

func (o *oscCloud) probe(ctx context.Context) (bool, error) {
	response, err := o.client.ReadVolumesRaw(ctx, osc.ReadVolumesRequest{})
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
		_, err = io.Copy(io.Discard, response.Body) // lets the connection be reused
		return false, err
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true, nil
	}
	return false, fmt.Errorf("the API returned %s", response.Status)
}
