package kills

import (
	"os"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

func TestMain(m *testing.M) {
	maybeTrace()
	if os.Getenv(partEnv) != "" { // in the virtual machine of TestQEMUReboot
		harness.MainWith(m, harness.Installed{Loopcloud: "/programs/loopcloud", Packer: "/programs/packer", Plugins: "/programs/plugins"})
	}
	harness.Main(m)
}
