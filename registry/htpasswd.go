package registry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxHTPasswd = 1 << 20
	// minCost and maxCost bound how much work a password's check is: too little is no protection, and a line of a file must not stop the server.
	minCost, maxCost = 4, 16
	htpasswdCost     = bcrypt.DefaultCost
)

// HTPasswdLine is the line of an htpasswd file for a user, with the password hashed by bcrypt.
func HTPasswdLine(user string, password []byte) (string, error) {
	if err := checkUser(user); err != nil {
		return "", err
	}
	if len(password) == 0 {
		return "", errors.New("an empty password lets everybody in")
	}
	hash, err := bcrypt.GenerateFromPassword(password, htpasswdCost)
	if err != nil {
		return "", fmt.Errorf("hashing the password: %w", err)
	}
	return user + ":" + string(hash), nil
}

func checkUser(user string) error {
	odd := func(r rune) bool { return r == ':' || unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if user == "" || len(user) > 255 || user[0] == '#' || strings.ContainsFunc(user, odd) {
		return fmt.Errorf("%.80q cannot be a user's name in an htpasswd file", user)
	}
	return nil
}

// checkHTPasswd wants a line per user, and bcrypt in each: whatever else there is would lock its user out without a word.
func checkHTPasswd(path string) error {
	f, err := os.Open(path) // the access controller would make a file, with a user of its own, where there is none
	if err != nil {
		return fmt.Errorf("the registry's users: %w", err)
	}
	defer f.Close()
	if err := parseHTPasswd(f); err != nil {
		return fmt.Errorf("the registry's users in %s: %w", path, err)
	}
	return nil
}

func parseHTPasswd(r io.Reader) error {
	limited := &io.LimitedReader{R: r, N: maxHTPasswd + 1}
	lines := bufio.NewScanner(limited)
	users := map[string]bool{}
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok || checkUser(user) != nil {
			return fmt.Errorf("line %d is not USER:HASH", n)
		}
		cost, err := bcrypt.Cost([]byte(hash))
		known := strings.HasPrefix(hash, "$2a$") || strings.HasPrefix(hash, "$2b$") || strings.HasPrefix(hash, "$2y$")
		if err != nil || !known || len(hash) != 60 || cost < minCost || cost > maxCost {
			return fmt.Errorf("line %d, user %s: the password is not hashed by bcrypt (wcbundle registry htpasswd makes such a line)", n, user)
		}
		if users[user] {
			return fmt.Errorf("line %d: user %s is there twice", n, user)
		}
		users[user] = true
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if limited.N <= 0 {
		return fmt.Errorf("longer than %d bytes", maxHTPasswd)
	}
	if len(users) == 0 {
		return errors.New("nobody is in it")
	}
	return nil
}
