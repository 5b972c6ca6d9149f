package prefetch

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestNothingIsItsSource assembles the source again: the machine code that is embedded is that, byte for byte.
func TestNothingIsItsSource(t *testing.T) {
	for arch, prefix := range map[string]string{"amd64": "", "arm64": "aarch64-linux-gnu-"} {
		if arch == runtime.GOARCH {
			prefix = ""
		}
		as, err := exec.LookPath(prefix + "as")
		if err != nil {
			t.Logf("no assembler for %s", arch)
			continue
		}
		dir := t.TempDir()
		object, code := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
		for _, argv := range [][]string{{as, "testdata/nothing_" + arch + ".s", "-o", object}, {prefix + "objcopy", "-O", "binary", "-j", ".text", object, code}} {
			if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", argv, err, out)
			}
		}
		want, err := os.ReadFile(code)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nothingCode.ReadFile("nothing/" + arch + ".bin")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("the embedded code for %s is not what the source assembles to (%v)", arch, err)
		}
	}
}

// TestNothingRuns runs it: on this machine, and the other architecture's where an emulator is there.
func TestNothingRuns(t *testing.T) {
	for _, arch := range architectures {
		b, err := Nothing(arch)
		if err != nil || len(b) > 256 {
			t.Fatalf("%s: %d bytes, %v", arch, len(b), err)
		}
		file := filepath.Join(t.TempDir(), "nothing")
		if err := os.WriteFile(file, b, 0o755); err != nil {
			t.Fatal(err)
		}
		argv := []string{file}
		if arch != runtime.GOARCH {
			emulator, err := exec.LookPath(map[string]string{"arm64": "qemu-aarch64-static", "amd64": "qemu-x86_64-static"}[arch])
			if err != nil {
				t.Logf("no emulator for %s", arch)
				continue
			}
			argv = []string{emulator, file}
		}
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", arch, err, out)
		}
	}
	for _, arch := range []string{"", "riscv64", "../amd64"} {
		if _, err := Nothing(arch); err == nil {
			t.Errorf("there is a program for %q", arch)
		}
	}
}
