package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The OCI distribution conformance suite, and how many tests it has with our switches. Fewer would mean that it has shrunk in silence.
const (
	ociSuite  = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
	ociSum    = "h1:ppZPU0CrEPzyJhVggYwUIZrqh0w2lIT0esw+9ABNPA4="
	ociBinary = "conformance"
	ociTests  = 516
)

// ociSwitches leave out what distribution v3 does not have: the referrers API (referrers are kept under a tag, as the specification
// allows), digests by sha512, and layers that lie elsewhere, which nobody should have.
var ociSwitches = []string{
	"OCI_TLS=disabled", "OCI_LOG=error", "OCI_API_REFERRER=false", "OCI_DATA_SHA512=false", "OCI_DATA_SUBJECT=false",
	"OCI_DATA_SUBJECT_LIST=false", "OCI_DATA_SUBJECT_MISSING=false", "OCI_DATA_NONDISTRIBUTABLE=false",
}

// TestRegistryConforms runs the suite, as its authors publish it, against the process that a site runs.
func TestRegistryConforms(t *testing.T) {
	dir := t.TempDir()
	suite := install(t, dir, ociSuite, ociSum, ociBinary)
	wcbundle := filepath.Join(dir, "wcbundle")
	command(t, "..", nil, "go", "build", "-o", wcbundle, "./cmd/wcbundle")
	addr := serve(t, wcbundle, filepath.Join(dir, "registry"))

	results := filepath.Join(dir, "results")
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(ociSwitches, "OCI_REGISTRY="+addr, "OCI_RESULTS_DIR="+results)...)
	out, err := cmd.CombinedOutput()
	sum := readJUnit(t, filepath.Join(results, "junit.xml"))
	t.Logf("%d tests, %d failures, %d errors, %d skipped", sum.Tests, sum.Failures, sum.Errors, sum.Skipped)
	if err != nil {
		t.Errorf("the suite ends with %v\n%s", err, out)
	}
	if sum.Failures != 0 || sum.Errors != 0 {
		t.Errorf("%d failures, %d errors", sum.Failures, sum.Errors)
	}
	if sum.Tests < ociTests {
		t.Errorf("only %d tests were run, want %d or more", sum.Tests, ociTests)
	}
}

// install builds a command by its module's own go.mod, once its bytes are those that we know, and gives its path.
func install(t *testing.T, dir, module, sum, name string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	var got struct{ Sum string }
	if err := json.Unmarshal(command(t, dir, nil, "go", "mod", "download", "-json", module), &got); err != nil || got.Sum != sum {
		t.Fatalf("%s has the sum %s, want %s (%v)", module, got.Sum, sum, err)
	}
	command(t, dir, []string{"GOBIN=" + bin}, "go", "install", module)
	return filepath.Join(bin, name)
}

func command(t *testing.T, dir string, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append([]string{"CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false"}, env...)...)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, complaint.String())
	}
	return out
}

// serve runs wcbundle registry serve until the test ends, and gives its address.
func serve(t *testing.T, wcbundle, dir string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, wcbundle, "registry", "serve", "--addr", "127.0.0.1:0", "--dir", dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the registry does not say where it is: %q, %v", line, err)
	}
	fields := strings.Fields(line)
	return fields[len(fields)-1]
}

// sums are a suite's counts.
type sums struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
	Skipped  int `xml:"skipped,attr"`
}

// readJUnit adds the suites of a report up.
func readJUnit(t *testing.T, path string) sums {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []sums `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &report); err != nil {
		t.Fatal(err)
	}
	var all sums
	for _, s := range report.Suites {
		all = sums{all.Tests + s.Tests, all.Failures + s.Failures, all.Errors + s.Errors, all.Skipped + s.Skipped}
	}
	return all
}
