package install

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/wordcab/wcbundle/sign"
)

// ReceiptVersion is the form of a receipt.
const ReceiptVersion = "bundle.wordcab.com/receipt.v1"

// Receipt is evidence for a security officer: what a site verified, by which policy, and what became of it. It is signed with
// the site's key, as a file (sign.SealFile).
type Receipt struct {
	APIVersion string       `json:"apiVersion"`
	Tool       string       `json:"tool"` // the version of wcbundle
	Site       string       `json:"site"`
	Product    string       `json:"product"`
	At         time.Time    `json:"at"`
	Trust      ReceiptTrust `json:"trust"`
	Verified   Evidence     `json:"verified"`
	Loaded     *Loaded      `json:"loaded,omitempty"` // nil: it is not in the site's registry
	Installed  *Installed   `json:"installed,omitempty"`
}

// ReceiptTrust names the policy by which the file was judged.
type ReceiptTrust struct {
	Version uint64 `json:"version"`
	SHA256  string `json:"sha256"` // of trust.json as the policy encodes it
}

// NewReceipt says what the site knows of a file that was verified by t. Installed is given only if it is this release.
func NewReceipt(r *Record, t *sign.Trust, ev Evidence, tool string, now time.Time) Receipt {
	sum := sha256.Sum256(t.Encode())
	out := Receipt{APIVersion: ReceiptVersion, Tool: tool, Site: r.Site, Product: r.Product, At: now.UTC().Truncate(time.Second),
		Trust: ReceiptTrust{t.Version(), hex.EncodeToString(sum[:])}, Verified: ev}
	for i := range r.Loads {
		if r.Loads[i].Head.Digest == ev.Head {
			out.Loaded = &r.Loads[i]
		}
	}
	if i := r.Installed; i != nil && i.Head.Digest == ev.Head {
		out.Installed = i
	}
	return out
}
