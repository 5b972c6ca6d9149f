package main

import (
	"bufio"
	"debug/buildinfo"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What verify is held to: the speed of sha256sum on the same file, and memory that does not grow with a blob.
const (
	verifySpeed = 0.8
	verifyLimit = 200e6 // bytes
	verifyModel = 3 << 30
	verifyQuick = 64 << 20
)

// A VerifyRow is the verification of one signed bundle beside programs that hash the same file, in turns. It has its own
// machine, so that it may be of another run than the rest.
type VerifyRow struct {
	Machine   Machine `json:"machine"`
	Version   string  `json:"version"`   // of ours
	Binary    int64   `json:"binary"`    // size of the program, bytes
	Modules   int     `json:"modules"`   // linked into it, its own not counted
	SumTool   string  `json:"sumTool"`   // version of sha256sum
	Processor bool    `json:"processor"` // the processor has instructions for SHA-256
	Size      int64   `json:"size"`      // of the bundle
	Rounds    int     `json:"rounds"`
	Verify    Cost    `json:"verify"`
	Sum       Cost    `json:"sum"`
	OpenSSL   *Cost   `json:"openssl,omitempty"`     // nil where it is not installed
	SSLTool   string  `json:"opensslTool,omitempty"` // its version
}

// Ratio is the speed of verify in speeds of the other program, by elapsed time.
func (v *VerifyRow) Ratio(other Cost) float64 { return other.Wall / max(v.Verify.Wall, 1e-3) }

// verify measures the verification of a bundle with one model of random bytes.
func (o *options) verify() (*VerifyRow, error) {
	if o.wcbundle == "" {
		return nil, errors.New("verify needs -wcbundle")
	}
	dir, err := os.MkdirTemp("", "wcbench-verify")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	row := &VerifyRow{Machine: thisMachine(), Rounds: max(o.runs, 3), Processor: strings.Contains(procField("/proc/cpuinfo", "flags"), "sha_ni")}
	model := int64(verifyModel)
	if o.quick {
		model = verifyQuick
	}
	file, err := o.signedBundle(dir, model)
	if err != nil {
		return nil, err
	}
	if row.Size, _, err = sizes(file, file); err != nil {
		return nil, err
	}
	if err := row.versions(o.wcbundle); err != nil {
		return nil, err
	}
	return row, row.rounds([]string{o.wcbundle, "verify", "--key", filepath.Join(dir, "key.pub"), file}, file)
}

// rounds runs the programs in turns, after one round that fills the page cache and does not count.
func (v *VerifyRow) rounds(verify []string, file string) error {
	programs := [][]string{verify, {"sha256sum", file}}
	if v.SSLTool != "" {
		programs = append(programs, []string{"openssl", "dgst", "-sha256", file})
	}
	costs := make([][]Cost, len(programs))
	for round := range v.Rounds + 1 {
		for i, argv := range programs {
			c, err := measure(argv...)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "verify: %-10s %6.2f s, %6.2f s CPU, %4d MB\n", filepath.Base(argv[0]), c.Wall, c.CPU, c.RSS/1e6)
			if round > 0 {
				costs[i] = append(costs[i], c)
			}
		}
	}
	v.Verify, v.Sum = medianCost(costs[0]), medianCost(costs[1])
	for _, c := range costs[0] {
		v.Verify.RSS = max(v.Verify.RSS, c.RSS) // a limit holds in every run
	}
	if v.SSLTool != "" {
		c := medianCost(costs[2])
		v.OpenSSL = &c
	}
	return nil
}

func (v *VerifyRow) versions(wcbundle string) (err error) {
	if v.Version, err = programVersion(wcbundle)(); err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(wcbundle)
	if err != nil {
		return fmt.Errorf("what is linked into %s: %w", wcbundle, err)
	}
	st, err := os.Stat(wcbundle)
	if err != nil {
		return err
	}
	v.Modules, v.Binary = len(info.Deps), st.Size()
	out, err := exec.Command("sha256sum", "--version").Output()
	if err != nil {
		return fmt.Errorf("the version of sha256sum: %w", err)
	}
	v.SumTool, _, _ = strings.Cut(string(out), "\n")
	if out, err := exec.Command("openssl", "version").Output(); err == nil {
		v.SSLTool, _, _ = strings.Cut(strings.TrimSpace(string(out)), " (")
	}
	return nil
}

// The smallest product that has a model.
const (
	verifyDefinition = `apiVersion: bundle.wordcab.com/v1alpha1
kind: Bundle
metadata: {name: verify, version: 1.0.0, channel: stable, sequence: 1}
charts:
- {name: verify, source: ./chart, release: verify, namespace: verify}
models:
- {id: large, ref: "registry.example.com/verify/large:1.0.0", source: ./model}
`
	verifyChart  = "apiVersion: v2\nname: verify\nversion: 1.0.0\n"
	verifyObject = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: verify}\n"
)

// signedBundle builds a bundle around a model of that many random bytes and signs it with dir/key.key.
func (o *options) signedBundle(dir string, model int64) (string, error) {
	for name, text := range map[string]string{
		"bundle.yaml": verifyDefinition, "chart/Chart.yaml": verifyChart, "chart/templates/verify.yaml": verifyObject,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return "", err
		}
	}
	weights := filepath.Join(dir, "model", "weights.bin")
	if err := errors.Join(os.Mkdir(filepath.Dir(weights), 0o755), writeRandom(weights, model)); err != nil {
		return "", err
	}
	for _, args := range []string{"keys generate --prefix key", "build -f bundle.yaml --out verify.wcb", "sign --key key.key verify.wcb"} {
		cmd := exec.Command(o.wcbundle, strings.Fields(args)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "WCBUNDLE_PASSWORD=bench")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("wcbundle %s: %w: %s", args, err, tail(out))
		}
	}
	return filepath.Join(dir, "verify.wcb"), os.Remove(weights)
}

// writeRandom writes the same random bytes every time.
func writeRandom(path string, n int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w, source, block := bufio.NewWriter(f), rand.New(rand.NewSource(1)), make([]byte, 1<<20)
	for ; n > 0; n -= int64(len(block)) {
		block = block[:min(n, int64(len(block)))]
		if _, err := source.Read(block); err != nil {
			return err
		}
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// verifyTargets judge the row.
func verifyTargets(r *Results) []verdict {
	const speed, memory = "verify: speed of sha256sum on the same file", "verify: memory"
	v := r.Verify
	if v == nil {
		return []verdict{missing(speed, ">= 0.80"), missing(memory, "< 200 MB")}
	}
	how := fmt.Sprintf("a bundle of %s", megabytes(v.Size))
	ratio := v.Ratio(v.Sum)
	all := []verdict{
		judge(speed, ">= 0.80", ratio >= verifySpeed, fmt.Sprintf("%s (%s)", number(ratio), how)),
		judge(memory, "< 200 MB", v.Verify.RSS < verifyLimit, fmt.Sprintf("%.0f MB (%s)", float64(v.Verify.RSS)/mega, how)),
	}
	for i := range all {
		if v.Size < verifyModel {
			all[i].state = "incomplete"
		}
	}
	return all
}
