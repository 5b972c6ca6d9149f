// Command demo prints the story of package story. e2e/run.sh sets its environment up.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/wordcab/wcbundle/e2e/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := story.New(story.FromEnvironment(os.Getenv, os.Stdout))
	if err != nil {
		return err
	}
	defer s.Close()
	steps, left := s.Steps()
	start := time.Now()
	for i, step := range steps {
		fmt.Printf("\n%d. %s\n", i+1, step.Title)
		at := time.Now()
		if err := step.Run(ctx); err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, step.Title, err)
		}
		fmt.Printf("  done in %.1f s\n", time.Since(at).Seconds())
	}
	fmt.Printf("\n%d steps in %.0f s, all as they should be.\n", len(steps), time.Since(start).Seconds())
	for _, l := range left {
		fmt.Printf("left out, because there is no cluster: %s\n", l)
	}
	return nil
}
