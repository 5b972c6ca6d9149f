package install

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

// maxWho bounds a name in the record.
const maxWho = 64

// Who is who runs this, for the record: the account's name, with who took it by sudo. It is a note for people, not a proof.
func Who() string {
	id := os.Getuid()
	name := fmt.Sprintf("uid %d", id)
	if u, err := user.LookupId(strconv.Itoa(id)); err == nil {
		name = u.Username
	}
	return who(name, os.Getenv("SUDO_USER"))
}

func who(name, sudo string) string {
	sudo = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return -1
		}
		return r
	}, sudo)
	if sudo != "" && sudo != name && len(sudo) <= maxWho {
		return sudo + " as " + name
	}
	return name
}
