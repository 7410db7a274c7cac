package bake

import (
	"context"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// announceMissingContexts reports, before provisioning, that new files get no SELinux labels. An
// error is left to warnOfMissingContexts, which will get it again.
func (b *build) announceMissingContexts(ctx context.Context, root mountedRoot) {
	contexts, err := root.SELinuxContexts(ctx, false)
	if err == nil && contexts.Mode != "" {
		b.report.Detail("the image uses SELinux (%s) and this host does not: files that the build creates get no labels, "+
			"unless a provisioner runs setfiles or touch /.autorelabel", contexts.Mode)
	}
}

// warnOfMissingContexts warns of files without SELinux labels, after the last change to the root. If
// the labels cannot be checked, it only warns.
func (b *build) warnOfMissingContexts(ctx context.Context, root mountedRoot) error {
	contexts, err := root.SELinuxContexts(ctx, true)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		b.report.Warn("cannot tell whether new files have SELinux labels: %v", err)
	default:
		if problem := missingContexts(contexts); problem != "" {
			b.report.Warn("%s. Have the last provisioner run touch /.autorelabel, so that the image labels its files at its first boot, "+
				"or setfiles -F /etc/selinux/%s/contexts/files/file_contexts /", problem, contexts.Policy)
		}
	}
	return nil
}

// missingContexts describes the problem of an image's labels; empty if there is none.
func missingContexts(l chroot.SELinuxContexts) string {
	switch {
	case l.Mode == "":
		return ""
	case l.Unlabelled == "/":
		return fmt.Sprintf("the image is to use SELinux (%s), but it has no labels, and this host, which does not use SELinux, gives it none", l.Mode)
	case l.Unlabelled != "":
		return fmt.Sprintf("%q, and perhaps other files that this build created, have no SELinux label, for this host does not use SELinux; "+
			"the image does (%s), and its programs may not be allowed to use them", l.Unlabelled, l.Mode)
	case l.Unsearched:
		return fmt.Sprintf("the image uses SELinux (%s) and this host does not: files that this build created may have no labels, "+
			"but not all could be looked at in time", l.Mode)
	}
	return ""
}
