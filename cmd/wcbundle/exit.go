package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
)

// Exit codes. They are stable and documented in docs/exit-codes.md.
const (
	exitOK             = 0
	exitError          = 1
	exitUsage          = 2
	exitUnsigned       = 10 // no signature
	exitUntrusted      = 11 // signed, but not by whom the site trusts for this
	exitDamaged        = 12 // bytes are not those that were signed
	exitBase           = 13 // a patch for a release that the site does not have
	exitReplayed       = 14 // older than what the site has accepted
	exitNotForSite     = 15 // another product, channel or site
	exitExpired        = 16
	exitNoRecord       = 17 // the site was not set up
	exitTrustChain     = 18 // a trust policy that does not follow from the site's
	exitPreflight      = 20
	exitRolledBack     = 21 // a gate failed and the site is back on the last good release
	exitHeld           = 22 // waits for a person
	exitRollbackFailed = 23
	exitNoSpace        = 28
	exitInterrupted    = 30 // run it again, it goes on where it was
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
	var damaged *bundle.DigestError
	var form *bundle.FormError
	var base *install.BaseError
	var missing *install.MissingError
	var space *install.SpaceError
	var out outcomeError
	switch {
	case errors.As(err, &usage):
		return answer{exitUsage, "wcbundle COMMAND --help shows how it is used"}
	case errors.As(err, new(fileDeltaError)):
		return fileDeltaAnswer(err)
	case errors.As(err, &untrusted):
		return untrustedAnswer(untrusted)
	case errors.As(err, &damaged):
		return answer{exitDamaged, "copy the file from its source again and compare; nothing of it was loaded"}
	case errors.As(err, &form):
		return answer{exitDamaged, "it is not a whole bundle or patch: copy it from its source again"}
	case errors.As(err, &base):
		return answer{exitBase, "ask for a patch made from a release that the site has, or load the full bundle"}
	case errors.As(err, &missing):
		return answer{exitBase, "load the full bundle of release " + missing.Version + " again: it has the blob"}
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
	case errors.Is(err, delta.ErrBaseMismatch):
		return answer{exitBase, "the registry's copy of the base is damaged: load the base release's full bundle again"}
	case errors.As(err, new(*delta.CorruptError)):
		return answer{exitDamaged, "the delta is damaged: copy the patch from its source again"}
	case errors.Is(err, rollout.ErrLocked), errors.Is(err, rollout.ErrLockLost):
		return answer{exitLocked, "another operation runs: watch it with wcbundle status --watch"}
	case errors.Is(err, rollout.ErrOpen):
		return answer{exitInterrupted, "finish it first: wcbundle resume, or wcbundle abort to go back"}
	case errors.Is(err, errInterrupted), errors.Is(err, rollout.ErrInterrupted), errors.Is(err, context.Canceled):
		return answer{exitInterrupted, "nothing is lost: run the same command again (apply and rollback: wcbundle resume)"}
	case errors.Is(err, fs.ErrNotExist):
		return answer{exitError, "check the path"}
	case errors.Is(err, registry.ErrSilent):
		return answer{exitError, "bring the site's registry up, or check its address and that it speaks http or https as the site's record says; then run it again"}
	case errors.Is(err, registry.ErrNotFound):
		return answer{exitError, "it is not in the registry: load the release that has it"}
	}
	return answer{code: exitError}
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

func untrustedAnswer(e *sign.UntrustedError) answer {
	switch e.Reason {
	case sign.Unsigned:
		return answer{exitUnsigned, "ask the vendor for the signed file; there is no way to accept an unsigned one"}
	case sign.Replayed:
		return answer{exitReplayed, "the site has accepted a newer release; to run an older one again use wcbundle rollback"}
	case sign.WrongBase:
		return answer{exitBase, "ask for a patch made from a release that the site has, or load the full bundle"}
	case sign.WrongSite, sign.WrongProduct, sign.WrongChannel, sign.WrongEpoch:
		return answer{exitNotForSite, "this file was made for another product, channel or site: ask the vendor"}
	case sign.BadChain:
		return answer{exitTrustChain, "nothing was changed: ask the vendor for the whole chain, and compare key ids (wcbundle trust show) over another channel"}
	case sign.Expired:
		return answer{exitExpired, "ask the vendor for one that is still valid, and check this machine's clock"}
	case sign.NoPolicy:
		return answer{exitUntrusted, "name who is trusted: --trust trust.json or --key cosign.pub"}
	}
	return answer{exitUntrusted, "check that the trust policy names the vendor's key; if it does, treat the file as hostile"}
}

func outcomeAnswer(e outcomeError) answer {
	switch e.Phase {
	case rollout.RolledBack:
		return answer{exitRolledBack, "the site runs the release it ran before; wcbundle status shows the evidence, wcbundle support-bundle collects it"}
	case rollout.Held:
		return answer{exitHeld, "look at wcbundle status, then wcbundle resume [--accept GATE] or wcbundle abort"}
	case rollout.RollbackFailed:
		return answer{exitRollbackFailed, "pools are held where they were: wcbundle support-bundle, then call the vendor"}
	}
	return answer{code: exitError}
}
