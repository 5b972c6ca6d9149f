package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/wordcab/wcbundle/registry"
)

// insideEnv is set for the copy of this test that runs in a network namespace of its own.
const insideEnv = "WCBUNDLE_TEST_NO_NETWORK"

// vendorSteps and siteSteps are a release's way from the vendor's folder to a site's registry. REGISTRY is the only address.
var (
	vendorSteps = []string{
		"keys generate --prefix root",
		"keys generate --prefix release --algorithm ed25519",
		"keys generate --prefix next",
		"keys public release.pub",
		"build -f r1/bundle.yaml --out r1.wcb",
		"build -f r2/bundle.yaml --out r2.wcb",
		"trust init --product shop --root-key root.pub --release-key release.pub --out trust.json",
		"trust sign --key root.key trust.json",
		"sign --key release.key --trust-chain trust-chain.json r1.wcb",
		"sign --key release.key r2.wcb",
		"patch --from r1.wcb --to r2.wcb --out p.wcp",
		"sign --key release.key p.wcp",
	}
	siteSteps = []string{
		"inspect r1.wcb",
		"verify --trust trust.json r1.wcb",
		"trust show trust.json",
		"trust accept --site t --registry REGISTRY --yes trust.json",
		"trust show",
		"verify r1.wcb",
		"load r1.wcb",
		"receipt --out receipt.json r1.wcb",
		"receipt verify --key state/wordcab/site.pub receipt.json",
		"inspect p.wcp",
		"verify p.wcp",
		"load p.wcp",
		"inventory --deep --out inventory.json",
		"inventory verify --key state/wordcab/site.pub inventory.json",
		"loads",
		"loads drop --yes 1.1.0",
		"registry gc --yes",
		"status",
		"trust add-key --key next.pub trust.json",
		"trust sign --key root.key trust.json",
		"trust update trust-chain.json",
		"trust show trust-chain.json",
	}
	pushing = map[string]bool{"load r1.wcb": true, "load p.wcp": true} // the steps that must reach the registry
)

// TestT52NoNetwork takes a release from its source to a site's registry on a machine that has no network but its loopback.
// The test runs itself again in a network namespace of its own.
func TestT52NoNetwork(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		if err := loopbackUp(); err != nil {
			t.Skip("a namespace of its own gives no right to bring its loopback up here: ", err)
		}
		walk(t, startRegistry(t), func(step string) *exec.Cmd { return exec.Command("wcbundle", strings.Fields(step)...) }, nil)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestT52NoNetwork$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 { // only a user namespace of their own lets others do that
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
	}
	out, err := cmd.CombinedOutput()
	if errors.As(err, new(*exec.ExitError)) {
		t.Fatalf("without a network: %v\n%s", err, out)
	}
	if err != nil {
		skipOutsideCI(t, "no user and network namespaces here: "+err.Error())
	}
	if !strings.Contains(string(out), "--- PASS: TestT52NoNetwork") {
		skipOutsideCI(t, "the copy in the namespace tested nothing:\n"+string(out))
	}
}

// TestT52Connects looks at every address that a command sends to, on a machine that has a network.
func TestT52Connects(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		skipOutsideCI(t, "strace is not installed")
	}
	addr, log := startRegistry(t), filepath.Join(t.TempDir(), "trace")
	trace := func(step string) *exec.Cmd {
		args := []string{"-f", "-qq", "-s", "256", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", log, "wcbundle"}
		return exec.Command(strace, append(args, strings.Fields(step)...)...)
	}
	if out, err := exec.Command(strace, "-f", "-qq", "-o", log, "true").CombinedOutput(); err != nil {
		skipOutsideCI(t, "strace may not trace here: "+string(out))
	}
	walk(t, addr, trace, func(step string) {
		strangers, reached := addressesIn(t, log, addr)
		for _, line := range strangers {
			t.Errorf("%s: reaches for something that is not the registry: %s", step, line)
		}
		if pushing[step] && reached == 0 {
			t.Errorf("%s: not even the registry was seen in the trace: the trace is blind", step)
		}
	})
}

// TestT52SeesNames proves that the trace would show a name that is looked up.
func TestT52SeesNames(t *testing.T) {
	log := filepath.Join(t.TempDir(), "trace")
	for line, strange := range map[string]bool{
		`7 connect(8, {sa_family=AF_INET, sin_port=htons(5000), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EINPROGRESS (Operation now in progress)`: false,
		`7 connect(8, {sa_family=AF_INET, sin_port=htons(5001), sin_addr=inet_addr("127.0.0.1")}, 16) = 0`:                                          true,
		`7 connect(8, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.1")}, 16) = 0`:                                            true,
		`7 connect(8, {sa_family=AF_INET, sin_port=htons(5000), sin_addr=inet_addr("192.0.2.1")}, 16) = 0`:                                          true,
		`7 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 0`:  true,
		`7 connect(3, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)`:                           true,
		`7 sendto(3, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = 1`:                                  true,
		`7 sendto(3, "x", 1, 0, NULL, 0) = 1`: false,
	} {
		if err := os.WriteFile(log, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if strangers, _ := addressesIn(t, log, "127.0.0.1:5000"); (len(strangers) > 0) != strange {
			t.Errorf("strange is not %v: %s", strange, line)
		}
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		skipOutsideCI(t, "strace is not installed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, strace, "-f", "-qq", "-o", log, "-e", "trace=connect,sendto,sendmsg,sendmmsg",
		"wcbundle", "pull", "--model", "registry.invalid:5000/a/b@sha256:"+strings.Repeat("0", 64), "--to", filepath.Join(t.TempDir(), "got"))
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("a registry of a name that does not exist gave something: %s", out)
	}
	if strangers, _ := addressesIn(t, log, "127.0.0.1:5000"); len(strangers) == 0 {
		t.Error("a name was looked up and the trace does not show it: the trace is blind")
	}
}

// walk runs the steps in a folder with a product, each by the command that run makes of it, and calls after behind each.
func walk(t *testing.T, addr string, run func(step string) *exec.Cmd, after func(step string)) {
	t.Helper()
	dir := t.TempDir()
	if err := writeProduct(dir); err != nil {
		t.Fatal(err)
	}
	for _, step := range append(vendorSteps[:len(vendorSteps):len(vendorSteps)], siteSteps...) {
		cmd := run(strings.ReplaceAll(step, "REGISTRY", addr))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "WCBUNDLE_PASSWORD=test", "WCBUNDLE_STATE_DIR="+filepath.Join(dir, "state"), "HOME="+dir, "KUBECONFIG=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("wcbundle %s: %v\n%s", step, err, out)
		}
		if after != nil {
			after(step)
		}
	}
}

var (
	familyIn = regexp.MustCompile(`sa_family=AF_[A-Z0-9]+`)
	inetIn   = regexp.MustCompile(`sa_family=AF_INET, sin_port=htons\((\d+)\), sin_addr=inet_addr\("([0-9.]+)"\)`)
)

// addressesIn reads a trace: the lines with an address that is not the registry's, and how many have the registry's.
func addressesIn(t *testing.T, log, registry string) (strangers []string, reached int) {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !familyIn.MatchString(line) {
			continue
		}
		m := inetIn.FindStringSubmatch(line)
		if m == nil || m[2]+":"+m[1] != registry {
			strangers = append(strangers, line)
			continue
		}
		reached++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return strangers, reached
}

// startRegistry serves an empty registry on loopback until the test ends.
func startRegistry(t *testing.T) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- registry.Serve(ctx, registry.ServeOptions{Addr: "127.0.0.1:0", Dir: t.TempDir(), Ready: func(addr string) { ready <- addr }})
	}()
	select {
	case addr = <-ready:
	case err := <-done:
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-done })
	return addr
}

// skipOutsideCI skips a test that this machine cannot run. In CI it fails: there, what it proves must be proven.
func skipOutsideCI(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// loopbackUp switches the namespace's loopback on, as "ip link set lo up" does.
func loopbackUp() error {
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(s)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte // the kernel's struct has 40 bytes
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}
