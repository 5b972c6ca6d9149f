package siteregistry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// tool is the path of a program; without it the test is left out, but not in CI.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" && name != "qemu-aarch64-static" {
		t.Fatalf("%s is missing", name)
	}
	if err != nil {
		t.Skipf("%s is missing", name)
	}
	return path
}

// TestSeedIsItsSource assembles the source again: the machine code that is embedded is that, byte for byte.
func TestSeedIsItsSource(t *testing.T) {
	for arch, prefix := range map[string]string{"amd64": "", "arm64": "aarch64-linux-gnu-"} {
		t.Run(arch, func(t *testing.T) {
			if arch != runtime.GOARCH {
				if _, err := exec.LookPath(prefix + "as"); err != nil {
					t.Skipf("no assembler for %s", arch)
				}
			}
			as, objcopy := tool(t, prefix+"as"), tool(t, prefix+"objcopy")
			dir := t.TempDir()
			object, code := filepath.Join(dir, "o"), filepath.Join(dir, "bin")
			for _, argv := range [][]string{{as, "testdata/seed_" + arch + ".s", "-o", object}, {objcopy, "-O", "binary", "-j", ".text", object, code}} {
				if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v: %s", argv, err, out)
				}
			}
			want, err := os.ReadFile(code)
			if err != nil {
				t.Fatal(err)
			}
			got, err := seedCode.ReadFile("seed/" + arch + ".bin")
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the embedded code is not what the source assembles to (%v)", err)
			}
		})
	}
}

// TestSeedRuns lets the seed put this test's program together in a root of its own, where nothing else is.
func TestSeedRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	root := t.TempDir()
	program := filepath.Join(root, "program")
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nfunc main() { fmt.Print(os.Args[1:], os.Getenv(\"A\")); os.Exit(7) }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	run := func() (string, int) {
		c := exec.Command("chroot", root, "/start", "registry", "serve")
		c.Env = []string{"A=b", "PATH=/"}
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	seed, err := Seed(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if len(seed) > 512 {
		t.Errorf("the seed has %d bytes", len(seed))
	}
	if err := errors.Join(os.WriteFile(filepath.Join(root, "start"), seed, 0o555), os.Mkdir(filepath.Join(root, "parts"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, code := run(); code != 2 { // ENOENT: no /seed
		t.Errorf("without a folder to write into it ended with %d", code)
	}
	if err := os.Mkdir(filepath.Join(root, "seed"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, code := run(); code != 8 { // ENOEXEC: an empty program
		t.Errorf("without parts it ended with %d", code)
	}
	for i := range 12 { // more than one digit
		from, to := len(b)*i/12, len(b)*(i+1)/12
		if err := os.WriteFile(filepath.Join(root, "parts", fmt.Sprintf("%03d", i)), b[from:to], 0o444); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // a container that is started again finds what the one before has written
		if out, code := run(); out != "[registry serve] b" && out != "[registry serve]b" || code != 7 {
			t.Fatalf("it printed %q and ended with %d", out, code)
		}
	}
}

func TestSeedOfOthers(t *testing.T) {
	for _, arch := range []string{"", "riscv64", "../amd64"} {
		if _, err := Seed(arch); err == nil {
			t.Errorf("there is a seed for %q", arch)
		}
	}
}
