package amazon

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// done is an action that succeeds without a result.
func done(name string) action { return answer(name, "<return>true</return>") }

// publisher is a fake that can be published on.
func publisher() *fake {
	s := &fake{actions: map[string]action{}}
	for _, name := range []string{
		"ModifyImageAttribute", "ModifySnapshotAttribute", "EnableImageDeprecation", "EnableImageDeregistrationProtection",
		"DisableImageDeregistrationProtection", "DeregisterImage",
	} {
		s.actions[name] = done(name)
	}
	return s
}

// order returns the actions in the order of their requests.
func (s *fake) order() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, form := range s.calls {
		names = append(names, form.Get("Action"))
	}
	return names
}

// everything is all that a user can request for an existing image.
func everything() Config {
	return Config{
		Config:        builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{"333333333333"}, SnapshotGroups: []string{"all"}}},
		PublishConfig: PublishConfig{AMIUsers: []string{"111111111111", "222222222222"}, AMIGroups: []string{"all"}, AMIOrgARNs: []string{"arn:aws:organizations::1:organization/o-1"}, AMIOUARNs: []string{"arn:aws:organizations::1:ou/o-1/ou-1"}, AMIProductCodes: []string{"code-1", "code-2"}, DeprecateAt: "2027-01-02T03:04:00Z", DeregistrationProtection: ProtectionConfig{Enabled: true}},
	}
}

func TestPublish(t *testing.T) {
	s := publisher()
	cloud := faked(t, s, everything())
	if err := cloud.Publish(context.Background(), bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1", "snap-2"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ModifyImageAttribute", "ModifySnapshotAttribute", "ModifySnapshotAttribute", "ModifyImageAttribute",
		"EnableImageDeprecation", "EnableImageDeregistrationProtection",
	}
	if got := s.order(); !slices.Equal(got, want) {
		t.Errorf("calls %v, want %v", got, want)
	}
	check(t, s.made("ModifyImageAttribute")[0], map[string]string{
		"ImageId": "ami-1", "LaunchPermission.Add.1.UserId": "111111111111", "LaunchPermission.Add.2.UserId": "222222222222",
		"LaunchPermission.Add.3.Group":                 "all",
		"LaunchPermission.Add.4.OrganizationArn":       "arn:aws:organizations::1:organization/o-1",
		"LaunchPermission.Add.5.OrganizationalUnitArn": "arn:aws:organizations::1:ou/o-1/ou-1", "LaunchPermission.Add.6.UserId": "",
	})
	check(t, s.made("ModifyImageAttribute")[1], map[string]string{
		"ImageId": "ami-1", "Attribute": "", "ProductCode.1": "code-1", "ProductCode.2": "code-2",
	})
	for i, id := range []string{"snap-1", "snap-2"} {
		check(t, s.made("ModifySnapshotAttribute")[i], map[string]string{
			"SnapshotId": id, "CreateVolumePermission.Add.1.UserId": "333333333333", "CreateVolumePermission.Add.2.Group": "all",
		})
	}
	check(t, s.made("EnableImageDeprecation")[0], map[string]string{"ImageId": "ami-1", "DeprecateAt": "2027-01-02T03:04:00Z"})
	check(t, s.made("EnableImageDeregistrationProtection")[0], map[string]string{"ImageId": "ami-1", "WithCooldown": ""})
}

func TestNothingToPublishIsNoRequest(t *testing.T) {
	s := publisher()
	if err := faked(t, s, Config{}).Publish(context.Background(), bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1"}}); err != nil {
		t.Fatal(err)
	}
	if got := s.order(); len(got) != 0 {
		t.Errorf("calls %v", got)
	}
}

// Each error names the image or the snapshot, and the option that is in vain.
func TestPublishRefused(t *testing.T) {
	tests := []struct {
		action string
		opts   Config
		words  []string
	}{
		{"ModifyImageAttribute", Config{PublishConfig: PublishConfig{AMIUsers: []string{"1"}}}, []string{"ami-1", "ami_users"}},
		{"ModifyImageAttribute", Config{PublishConfig: PublishConfig{AMIProductCodes: []string{"1"}}}, []string{"ami-1", "ami_product_codes"}},
		{"ModifySnapshotAttribute", Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{"1"}}}}, []string{"snap-1", "snapshot_users"}},
		{"EnableImageDeprecation", Config{PublishConfig: PublishConfig{DeprecateAt: "2027-01-02T03:04:00Z"}}, []string{"ami-1", "deprecate_at", "2027-01-02"}},
		{"EnableImageDeregistrationProtection", Config{PublishConfig: PublishConfig{DeregistrationProtection: ProtectionConfig{Enabled: true}}}, []string{"ami-1", "deregistration_protection"}},
	}
	for _, tt := range tests {
		t.Run(tt.words[1], func(t *testing.T) {
			s := publisher()
			s.actions[tt.action] = refuse("UnauthorizedOperation")
			err := faked(t, s, tt.opts).Publish(context.Background(), bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1"}})
			says(t, err, append(tt.words, "UnauthorizedOperation")...)
		})
	}
}

// TestPublishUnsettledImage checks that changing calls are retried: for a while after EC2 has
// shown an image as available, they may not find it, or refuse to change it.
func TestPublishUnsettledImage(t *testing.T) {
	s := publisher()
	for name, answers := range s.actions {
		s.actions[name] = inTurn(refuse("InvalidAMIID.NotFound"), refuse("InvalidAMIID.Unavailable"), answers)
	}
	s.actions["ModifySnapshotAttribute"] = inTurn(refuse("InvalidSnapshot.NotFound"), done("ModifySnapshotAttribute"))
	s.actions["DescribeImages"] = images(`<imageId>ami-1</imageId><imageState>available</imageState>`)
	s.actions["DescribeSnapshots"] = snapshots("<snapshotId>snap-1</snapshotId>")
	cloud := faked(t, s, everything())
	publish := func() error {
		return cloud.Publish(context.Background(), bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1"}})
	}
	refusals := 0
	err := publish()
	for ; errors.Is(err, bake.ErrUnsettled); err = publish() {
		refusals++
	}
	if err != nil || refusals < 5 {
		t.Errorf("after %d refusals: %v", refusals, err)
	}
}

// TestDeregisterProtectedImage checks that a build can deregister an image that it has
// protected itself, but no other protected image.
func TestDeregisterProtectedImage(t *testing.T) {
	const protect, unprotect, deregister = "EnableImageDeregistrationProtection", "DisableImageDeregistrationProtection", "DeregisterImage"
	kept := refuse("OperationNotPermitted")
	tests := []struct {
		name     string
		cooldown bool
		image    bake.ImageID
		change   func(*fake)
		want     []string
		words    []string
	}{
		{"this build's", false, "ami-1", func(*fake) {}, []string{protect, unprotect, deregister}, nil},
		{"another image", false, "ami-2", func(*fake) {}, []string{protect, deregister}, nil},
		{"protection was refused", false, "ami-1", func(s *fake) { s.actions[protect] = refuse("UnauthorizedOperation") }, []string{protect, deregister}, nil},
		{"gone", false, "ami-1", func(s *fake) {
			s.actions[unprotect], s.actions[deregister] = refuse("InvalidAMIID.NotFound"), refuse("InvalidAMIID.NotFound")
			s.actions["DescribeImages"] = images()
		}, []string{protect, unprotect, "DescribeImages", deregister, "DescribeImages"}, nil},
		{"not allowed", false, "ami-1", func(s *fake) { s.actions[unprotect] = refuse("UnauthorizedOperation") }, []string{protect, unprotect},
			[]string{"end the protection of image ami-1", "UnauthorizedOperation"}},
		{"in its cooldown", true, "ami-1", func(s *fake) { s.actions[deregister] = kept }, []string{protect, unprotect, deregister},
			[]string{"deregister image ami-1", "with_cooldown", "24 hours"}},
		{"protected by somebody", false, "ami-2", func(s *fake) { s.actions[deregister] = kept }, []string{protect, deregister},
			[]string{"deregister image ami-2", "OperationNotPermitted"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			s := publisher()
			tt.change(s)
			cloud := faked(t, s, Config{PublishConfig: PublishConfig{DeregistrationProtection: ProtectionConfig{Enabled: true, WithCooldown: tt.cooldown}}})
			if err := cloud.Publish(ctx, bake.PublishSpec{Image: "ami-1"}); (err != nil) != (tt.name == "protection was refused") {
				t.Fatal(err)
			}
			err := cloud.Deregister(ctx, tt.image)
			if tt.words != nil {
				says(t, err, tt.words...)
			} else if err != nil {
				t.Error(err)
			}
			if got := s.order(); !slices.Equal(got, tt.want) {
				t.Errorf("calls %v, want %v", got, tt.want)
			}
		})
	}
}

// TestProtectionWithLostResponseIsUndone checks that the protection is undone even if its
// response was lost.
func TestProtectionWithLostResponseIsUndone(t *testing.T) {
	ctx := context.Background()
	s := publisher()
	s.actions["EnableImageDeregistrationProtection"] = breakOff
	cloud := faked(t, s, Config{PublishConfig: PublishConfig{DeregistrationProtection: ProtectionConfig{Enabled: true}}})
	says(t, cloud.Publish(ctx, bake.PublishSpec{Image: "ami-1"}), "protect image ami-1")
	if err := cloud.Deregister(ctx, "ami-1"); err != nil {
		t.Error(err)
	}
	if n := len(s.made("DisableImageDeregistrationProtection")); n != 1 {
		t.Errorf("protection was ended %d times", n)
	}
}
