package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"syscall"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/siteregistry"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
	"github.com/wordcab/wcbundle/sign/hsm"
)

// Exit codes. They are stable and documented in docs/exit-codes.md.
const (
	exitOK             = 0
	exitError          = 1
	exitUsage          = 2
	exitUnsigned       = 10 // no signature
	exitWrongKey       = 11 // signed, but by no key that is trusted
	exitDamaged        = 12 // bytes are not those that were signed
	exitBase           = 13 // a patch for a release that the site does not have
	exitReplayed       = 14 // older than what the site has accepted
	exitWrongSite      = 15 // for other sites
	exitExpired        = 16
	exitNoRecord       = 17 // the site was not set up
	exitTrustChain     = 18 // a trust policy that does not follow from the site's
	exitLostRecord     = 19 // the site has releases, and its record is gone
	exitPreflight      = 20
	exitRolledBack     = 21 // a gate failed and the site is back on the last good release
	exitHeld           = 22 // waits for a person
	exitRollbackFailed = 23
	exitNoSpace        = 28
	exitInterrupted    = 30 // run it again, it goes on where it was
	exitNoPolicy       = 40
	exitBadEnvelope    = 41
	exitBadStatement   = 42
	exitWrongPredicate = 43
	exitWrongSubject   = 44
	exitWrongChannel   = 45
	exitRevoked        = 46
	exitWrongRole      = 47
	exitThreshold      = 48
	exitWrongScope     = 49 // more than the security role may do
	exitWrongProduct   = 50
	exitWrongEpoch     = 51
	exitNotYet         = 52 // issued in the future
	exitUndoes         = 53 // would take fixes away from what runs
	exitElsewhere      = 54 // the registry sends us to another host
	exitMalformed      = 55 // signed, and still nothing that wcbundle writes
	exitNoConsent      = 57 // the site's own approvers have not agreed
	exitTagTaken       = 56 // a tag in the registry points at what this site has not loaded
	exitDenied         = 58 // the registry lets us in by no login or not by this one
	exitInUse          = 59 // what runs, or a revision or operation needs, cannot be dropped
	exitNoDelete       = 60 // the registry lets nobody delete
	exitLocked         = 75
)

// usageError is a mistake on the command line.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

var (
	errInterrupted = errors.New("interrupted")
	errPreflight   = errors.New("preflight found what would break the upgrade")
)

// outcomeError carries how an operation ended to the exit code.
type outcomeError struct{ rollout.Outcome }

func (e outcomeError) Error() string {
	where := ""
	if e.Pool != "" {
		where = " at pool " + e.Pool
	}
	if e.Gate != "" {
		where += ", gate " + e.Gate
	}
	text := map[rollout.Phase]string{
		rollout.RolledBack:     "rolled back",
		rollout.RollbackFailed: "the rollback failed too, everything is on hold",
		rollout.Held:           "on hold",
		rollout.Aborted:        "stopped before anything was changed",
	}[e.Phase]
	return strings.TrimSpace(fmt.Sprintf("%s%s: %s", text, where, e.Reason))
}

// answer is what the operator is told beside the error.
type answer struct {
	code int
	hint string
}

// report prints an error with its next move and gives its exit code.
func report(w io.Writer, err error) int {
	a := answerTo(err)
	for i, line := range strings.Split(strings.TrimSpace(err.Error()), "\n") {
		if i == 0 {
			line = "error: " + line
		}
		fmt.Fprintln(w, "wcbundle: "+line)
	}
	if a.hint != "" {
		fmt.Fprintln(w, "wcbundle: hint: "+a.hint)
	}
	return a.code
}

// answerTo is the one table from errors to exit codes and hints.
func answerTo(err error) answer {
	var usage usageError
	var untrusted *sign.UntrustedError
	var imageKey *bundle.ImageKeyError
	var damaged *bundle.DigestError
	var form *bundle.FormError
	var base *install.BaseError
	var missing *install.MissingError
	var spoiled *install.SpoiledError
	var space *install.SpaceError
	var out outcomeError
	switch {
	case errors.As(err, &usage):
		return answer{exitUsage, "wcbundle COMMAND --help shows how it is used"}
	case errors.As(err, new(fileDeltaError)):
		return fileDeltaAnswer(err)
	case errors.As(err, &imageKey):
		return imageKeyAnswer(imageKey)
	case errors.As(err, &untrusted):
		return untrustedAnswer(untrusted)
	case errors.As(err, new(*bundle.ContentError)):
		return answer{exitMalformed, "ask whoever made it: no copy of the file will be better"}
	case errors.As(err, &spoiled):
		return answer{exitBase, "wcbundle load --rehash with the full bundle of release " + spoiled.Version + " puts a whole one in its place; or name that bundle here with --base"}
	case errors.Is(err, siteregistry.ErrNone):
		return answer{exitError, "wcbundle registry install brings one up from a bundle"}
	case errors.As(err, new(*siteregistry.UnreachableError)):
		return answer{exitError, "open the way to that port, or run registry install again with --push HOST:PORT for another one"}
	case errors.As(err, new(*siteregistry.NotReadyError)):
		return answer{exitError, "mend what its pod says, then run registry install again: it goes on where it was"}
	case errors.As(err, new(*install.KeptError)):
		return answer{exitDamaged, "copy that bundle from its source again, or leave out --base to rebuild from the registry"}
	case errors.Is(err, registry.ErrNoRanges):
		return answer{exitNoSpace, "there is no room for copies of the bases, and this registry gives no parts of blobs: name a larger folder with --scratch, or the base's bundle with --base"}
	case errors.As(err, &damaged):
		return answer{exitDamaged, "copy the file from its source again and compare; nothing of it was loaded"}
	case errors.As(err, &form), errors.Is(err, bundle.ErrNoBlob), errors.Is(err, bundle.ErrTooLong):
		return answer{exitDamaged, "it is not a whole bundle or patch: copy it from its source again"}
	case errors.As(err, &base):
		return answer{exitBase, "ask for a patch made from a release that the site has, or load the full bundle"}
	case errors.As(err, &missing):
		return answer{exitBase, "load the full bundle of release " + missing.Version + " again: it has the blob; or name it here with --base"}
	case errors.As(err, &space) && space.Registry != "":
		return answer{exitNoSpace, "make its volume larger, or free what nothing needs: wcbundle registry gc --dry-run; nothing was sent"}
	case errors.As(err, &space), errors.Is(err, syscall.ENOSPC):
		return answer{exitNoSpace, "free some room or name another folder with --scratch, then run it again: it goes on where it was"}
	case errors.As(err, &out):
		return outcomeAnswer(out)
	}
	return plainAnswer(err)
}

func plainAnswer(err error) answer {
	switch {
	case errors.Is(err, errPreflight):
		return answer{exitPreflight, "mend what blocks and run preflight again; nothing was changed"}
	case errors.Is(err, install.ErrNoRecord):
		return answer{exitNoRecord, "set the site up once: wcbundle trust accept --site NAME --registry HOST:PORT trust.json"}
	case errors.As(err, new(*install.LostRecordError)):
		return answer{exitLostRecord, "bring site.json or the ConfigMap wcbundle-site back; if both are lost for good: wcbundle trust accept --adopt REASON, which takes over what the registry proves"}
	case errors.As(err, new(*install.UndoError)):
		return answer{exitUndoes, "ask the vendor for a release that contains these fixes; to give them up, wcbundle rollback goes to what ran before"}
	case errors.As(err, new(*install.ImpossibleError)):
		return answer{exitPreflight, "mend what it names and run it again; wcbundle history shows what else can be gone back to"}
	case errors.As(err, new(*install.RevokedError)):
		return answer{exitRevoked, "go to another revision (wcbundle history), or say why this one must run: --despite-revocation REASON"}
	case errors.As(err, new(*install.ConsentError)):
		return answer{exitNoConsent, "an approver signs it: wcbundle approve --key KEY --site ID FILE; then here: wcbundle approve add APPROVAL"}
	case errors.As(err, new(*install.TagError)):
		return answer{exitTagTaken, "find out who put it there; to let the tags point at this release: load --move-tags. Pods run by digest, whatever a tag says"}
	case errors.As(err, new(*registry.ElsewhereError)):
		return answer{exitElsewhere, "if that host is the registry's own token service or store of blobs, name it: wcbundle registry use --also HOST (pull --also HOST; trust accept --registry-also HOST at set-up); else treat the registry as broken or hostile"}
	case errors.As(err, new(*registry.DeniedError)):
		return deniedAnswer(err)
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return answer{exitError, "name the CA that signed the registry's certificate: wcbundle registry use --ca FILE (pull --ca FILE; trust accept --registry-ca FILE at set-up)"}
	case errors.As(err, new(tls.AlertError)):
		return answer{exitError, "the registry may want a client certificate, or another one: wcbundle registry use --cert FILE --key FILE"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return answer{exitError, "the registry speaks plain http: give it a certificate, or say --plain-http where nobody else can listen"}
	case errors.Is(err, registry.ErrNoLogin):
		return answer{exitError, "it lets everybody in, so there is nothing to prove a password against: nothing was written"}
	case errors.As(err, new(*install.NoBaseError)):
		return answer{exitBase, "name with --from the bundle of a release that the site holds, or send it the full bundle"}
	case errors.As(err, new(*install.UsedError)):
		return answer{exitInUse, "apply another release first, or wait until rollback need not go back to it; wcbundle loads shows what is in use"}
	case errors.Is(err, install.ErrNotAsked):
		return answer{exitUsage, "name the cluster with --kubeconfig, or take the risk with --" + blindFlag}
	case errors.Is(err, registry.ErrNoDelete):
		return answer{exitNoDelete, "allow deletion in the registry's configuration (distribution: storage.delete.enabled), then run it again"}
	case errors.Is(err, install.ErrLoading):
		return answer{exitLocked, "wait until it has ended; then run the same command again, if it is still needed"}
	case errors.Is(err, rollout.ErrLocked), errors.Is(err, rollout.ErrLockLost):
		return answer{exitLocked, "another operation runs: watch it with wcbundle status --watch"}
	case errors.Is(err, rollout.ErrOpen):
		return answer{exitInterrupted, "finish it first: wcbundle resume, or wcbundle abort to go back"}
	case errors.Is(err, errInterrupted), errors.Is(err, rollout.ErrInterrupted), errors.Is(err, context.Canceled):
		return answer{exitInterrupted, "nothing is lost: run the same command again (apply and rollback: wcbundle resume)"}
	case errors.Is(err, hsm.ErrNotBuilt):
		return answer{exitError, "make pkcs11 builds one that has it (bin/wcbundle-pkcs11), or sign elsewhere: wcbundle sign --prepare, then --attach"}
	case errors.Is(err, hsm.ErrURI):
		return answer{exitUsage, "as in pkcs11:token=TOKEN;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so"}
	case errors.Is(err, hsm.ErrPIN):
		return answer{exitError, "check the PIN before trying again: tokens lock themselves after a few wrong ones"}
	case errors.Is(err, hsm.ErrToken):
		return answer{exitError, "pkcs11-tool --module LIBRARY --list-slots shows the tokens that the library sees; check that yours is plugged in"}
	case errors.Is(err, hsm.ErrNoKey):
		return answer{exitError, "pkcs11-tool --module LIBRARY --login --list-objects shows the keys; the public key must be in the token too"}
	case errors.Is(err, hsm.ErrAmbiguous):
		return answer{exitError, "name the key by its id too, as in object=LABEL;id=%01; pkcs11-tool --list-objects shows the ids"}
	case errors.Is(err, fs.ErrNotExist):
		return answer{exitError, "check the path"}
	case errors.Is(err, install.ErrNoPolicy):
		return answer{exitError, "switch MutatingAdmissionPolicy on at the API server (docs/registries.md), or choose another way: wcbundle registry use --run-time mirrors"}
	case errors.Is(err, install.ErrPolicyIdle):
		return answer{exitError, "check the API server's --feature-gates (Kubernetes 1.34: MutatingAdmissionPolicy=true), or choose another way: wcbundle registry use --run-time mirrors"}
	case errors.Is(err, registry.ErrSilent):
		return answer{exitError, "bring the site's registry up, or check its address and that it speaks http or https as the site's record says; then run it again"}
	case errors.Is(err, registry.ErrNotFound):
		return answer{exitError, "it is not in the registry: load the release that has it"}
	}
	return answer{code: exitError}
}

// deniedAnswer is about a registry that did not let us in.
func deniedAnswer(err error) answer {
	var e *registry.DeniedError
	errors.As(err, &e)
	if e.Status == http.StatusForbidden && e.Login {
		return answer{exitDenied, "ask whoever runs the registry to allow it to this user, or log in as another: wcbundle registry login --username USER"}
	}
	return answer{exitDenied, "log in, with a password that is right and has not expired: wcbundle registry login --username USER"}
}

// fileDeltaError is an error of wcbundle delta apply, whose user named the files.
type fileDeltaError struct{ error }

func (e fileDeltaError) Unwrap() error { return e.error }

func fileDeltaAnswer(err error) answer {
	switch {
	case errors.Is(err, delta.ErrBaseMismatch):
		return answer{exitBase, "name the files that the delta was made from, in the same order; wcbundle delta explain shows their digests"}
	case errors.Is(err, delta.ErrTooLarge):
		return answer{exitError, "allow more with --memory; wcbundle delta explain shows what it needs"}
	case errors.As(err, new(*delta.CorruptError)):
		return answer{exitDamaged, "copy the delta from its source again; nothing was written"}
	case errors.Is(err, syscall.ENOSPC):
		return answer{exitNoSpace, "free some room, or name folders that have it with --scratch and --out; nothing was written"}
	case errors.Is(err, context.Canceled):
		return answer{exitInterrupted, "nothing was written: run the same command again"}
	}
	return answer{exitError, "nothing was written"}
}

// trustAnswers is the table for refusals of the trust rules: each has a code of its own.
var trustAnswers = map[sign.Reason]answer{
	sign.NoPolicy:       {exitNoPolicy, "name who is trusted: --trust trust.json or --key cosign.pub"},
	sign.BadChain:       {exitTrustChain, "nothing was changed: ask the vendor for the whole chain, and compare key ids (wcbundle trust show) over another channel"},
	sign.Unsigned:       {exitUnsigned, "ask the vendor for the signed file; there is no way to accept an unsigned one"},
	sign.BadEnvelope:    {exitBadEnvelope, "the signature file is not well-formed: copy the file again; if it stays so, treat it as hostile"},
	sign.WrongKey:       {exitWrongKey, "compare the vendor's key ids with wcbundle trust show over another channel; if they agree, treat the file as hostile"},
	sign.BadStatement:   {exitBadStatement, "a trusted key signed what no wcbundle writes: ask the vendor, and load nothing from this medium"},
	sign.WrongPredicate: {exitWrongPredicate, "a trusted key signed it for another purpose: treat the file as hostile"},
	sign.WrongSubject:   {exitWrongSubject, "the signature is about other content: copy the file again; if it stays so, treat it as hostile"},
	sign.WrongChannel:   {exitWrongChannel, "nobody may sign for that channel here: ask the vendor for a trust policy that has its role"},
	sign.Revoked:        {exitRevoked, "the vendor has taken it back: ask for the release that replaces it"},
	sign.WrongRole:      {exitWrongRole, "ask the vendor which key should have signed it; wcbundle trust show lists who may sign what"},
	sign.Threshold:      {exitThreshold, "ask the vendor to let more keys of the role sign it"},
	sign.WrongScope:     {exitWrongScope, "the security team must make a smaller drop, or the vendor a release; wcbundle trust show lists what it may change"},
	sign.WrongProduct:   {exitWrongProduct, "this file is another product's: check which file belongs to this site"},
	sign.WrongSite:      {exitWrongSite, "this file was made for other sites: ask the vendor for yours"},
	sign.WrongEpoch:     {exitWrongEpoch, "the file and the trust policy are of different epochs: ask the vendor for the trust chain that belongs to the file (wcbundle trust update)"},
	sign.Replayed:       {exitReplayed, "the site has accepted a newer release; to run an older one again use wcbundle rollback"},
	sign.NotYet:         {exitNotYet, "check this machine's clock; if it is right, the signer's was wrong: ask the vendor"},
	sign.Expired:        {exitExpired, "ask the vendor for one that is still valid, and check this machine's clock"},
	sign.WrongBase:      {exitBase, "ask for a patch made from a release that the site has, or load the full bundle"},
}

// imageKeyAnswer is about an image that a definition wants signed.
func imageKeyAnswer(e *bundle.ImageKeyError) answer {
	var judged *sign.UntrustedError
	switch {
	case !errors.As(e.Err, &judged):
		return answer{exitError, "mend the source, or take the image with its signatures into a registry of your own"}
	case judged.Reason == sign.Unsigned:
		return answer{exitUnsigned, "name a source that holds the image's signatures, or have it signed: cosign sign --key KEY REPOSITORY@DIGEST"}
	}
	return answer{exitWrongKey, "name the key that its vendor signs with in the line's key; if it is the right one, do not ship the image"}
}

func untrustedAnswer(e *sign.UntrustedError) answer {
	a, ok := trustAnswers[e.Reason]
	if !ok {
		return answer{exitError, "treat the file as hostile"}
	}
	return a
}

func outcomeAnswer(e outcomeError) answer {
	switch e.Phase {
	case rollout.RolledBack:
		return answer{exitRolledBack, "the site runs the release it ran before; wcbundle status shows the evidence, wcbundle support-bundle collects it"}
	case rollout.Held:
		return answer{exitHeld, heldNext(e.HeldFor)}
	case rollout.RollbackFailed:
		return answer{exitRollbackFailed, "pools are held where they were: wcbundle support-bundle, then call the vendor"}
	}
	return answer{code: exitError}
}
