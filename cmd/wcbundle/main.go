// Command wcbundle makes, signs and delivers releases of GPU products to sites without a network, and installs them there
// pool by pool behind health gates. `wcbundle help` lists the commands; README.md tells the story.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program: arguments in, exit code out.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	err := app.RunContext(ctx, guide(args))
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && !errors.As(err, new(usageError)) {
		err = fmt.Errorf("%w: %w", errInterrupted, err)
	}
	return report(stderr, err)
}

// guide turns the spelling of the product's guide, `wcbundle deploy VERB`, into `wcbundle VERB`.
func guide(args []string) []string {
	if len(args) > 1 && args[1] == "deploy" {
		return append([]string{args[0]}, args[2:]...)
	}
	return args
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:                      "wcbundle",
		Usage:                     "signed release bundles and delta patches for sites without a network",
		Version:                   version,
		Reader:                    stdin,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		HideHelpCommand:           true,
		Suggest:                   true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return usageError{err.Error()}
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usageError{fmt.Sprintf("there is no command %q. %s", c.Args().First(), cli.SuggestCommand(c.App.Commands, c.Args().First()))}
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.Commands = append(app.Commands, buildCommands()...)
	app.Commands = append(app.Commands, deltaCommands()...)
	app.Commands = append(app.Commands, keyCommands()...)
	app.Commands = append(app.Commands, siteCommands()...)
	app.Commands = append(app.Commands, rolloutCommands()...)
	app.Commands = append(app.Commands, controlCommands()...)
	app.Commands = append(app.Commands, detachCommands()...)
	app.Commands = append(app.Commands, supportCommands()...)
	app.Commands = append(app.Commands, registryCommands()...)
	app.Commands = append(app.Commands, plainCommands()...)
	for _, c := range app.Commands {
		guard(c)
	}
	return app
}

// guard wraps a command's action, and those of its subcommands, so that a flag behind an argument is refused instead of
// dropped, and a wrong number of arguments is told with the usage line.
func guard(c *cli.Command) {
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return usageError{err.Error()} }
	c.HideHelpCommand = true
	for _, s := range c.Subcommands {
		guard(s)
	}
	if c.Action == nil {
		c.Action = func(ctx *cli.Context) error {
			if ctx.Args().Present() {
				return usageError{fmt.Sprintf("%s has no command %q", c.Name, ctx.Args().First())}
			}
			return cli.ShowSubcommandHelp(ctx)
		}
		return
	}
	action, name, needed := c.Action, c.Name, takeRequired(c.Flags)
	least, most := arity(c.ArgsUsage)
	c.Action = func(ctx *cli.Context) error {
		for _, a := range ctx.Args().Slice() {
			if strings.HasPrefix(a, "-") && len(a) > 1 {
				return usageError{fmt.Sprintf("flag %s stands behind an argument: write flags first, as in wcbundle %s %s ARGUMENT", a, name, a)}
			}
		}
		if n := ctx.NArg(); n < least || n > most {
			return usageError{fmt.Sprintf("%s takes %s, %d arguments were given", name, argumentsText(c.ArgsUsage), n)}
		}
		for _, f := range needed {
			if !ctx.IsSet(f) {
				return usageError{fmt.Sprintf("%s needs --%s", name, f)}
			}
		}
		return action(ctx)
	}
}

// takeRequired names the required flags and makes them optional for the parser, whose own complaint prints all of the help
// on stdout and cannot be told from other errors.
func takeRequired(flags []cli.Flag) []string {
	var out []string
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Required {
				out, f.Required, f.Usage = append(out, f.Name), false, f.Usage+" (required)"
			}
		case *cli.StringSliceFlag:
			if f.Required {
				out, f.Required, f.Usage = append(out, f.Name), false, f.Usage+" (required)"
			}
		}
	}
	return out
}

func argumentsText(usage string) string {
	if usage == "" {
		return "no arguments"
	}
	return usage
}

// arity counts the arguments that a usage text such as "FILE [FILE...]" allows.
func arity(usage string) (least, most int) {
	for _, w := range strings.Fields(usage) {
		switch {
		case strings.HasSuffix(w, "...]"):
			most += 1000
		case strings.HasPrefix(w, "["):
			most++
		default:
			least++
			most++
		}
	}
	return least, most
}
