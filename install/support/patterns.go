package support

import (
	"bytes"
	"regexp"
	"strings"
)

// mask replaces whatever is redacted. It is shorter than any literal.
const mask = "***"

var (
	sensitiveName = regexp.MustCompile(`(?i)pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|credential|private|auth|bearer|cookie|session|license|dsn|webhook|connection`)
	countName     = regexp.MustCompile(`(?i)tokens?$|tokens?[_-](?:count|limit|total|per|max|seconds)|max[_-]?tokens?|expirationseconds$`)
	digitsOnly    = regexp.MustCompile(`^[0-9.]+$`)
)

// structural are keys of Kubernetes itself that only sound like secrets: they hold names and settings.
var structural = map[string]bool{
	"secretname": true, "secretnamespace": true, "secretkeyref": true, "secretref": true, "secret": false,
	"imagepullsecrets": true, "automountserviceaccounttoken": true, "serviceaccounttoken": true,
	"tokenexpirationseconds": true, "sessionaffinity": true, "sessionaffinityconfig": true, "author": true, "authors": true,
	"webhook": false, "webhooks": true, "pathtype": true, "authorization": false, "secretproviderclass": true,
	"conversionreviewversions": true, "privileged": true, "allowprivilegeescalation": true,
	"validatingwebhookconfiguration": true, "mutatingwebhookconfiguration": true, "tokenrequests": true,
}

// sensitiveKey reports whether a key's value has to go.
func sensitiveKey(k string) bool {
	return sensitiveName.MatchString(k) && !structural[strings.ToLower(k)]
}

// sensitiveValue leaves counts alone: an LLM server's logs and settings are full of tokens that are numbers.
func sensitiveValue(key, value string) bool {
	if value == "" || value == mask || value == "true" || value == "false" || value == "null" || value == "none" {
		return false
	}
	return !digitsOnly.MatchString(value) || !countName.MatchString(key)
}

// rule is one pattern. anchors are lower-case strings of which one must be in a line before the expression is tried.
// hard patterns are sure enough to abort on when they are found in the finished archive.
type rule struct {
	name    string
	anchors []string
	expr    *regexp.Regexp
	group   int // the part to mask; 0 = all
	hard    bool
}

var rules = []rule{
	{"jwt", []string{"eyj"}, regexp.MustCompile(`eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?`), 0, true},
	{"known-token", []string{"hf_", "sk-", "nvapi-", "gh", "glpat-", "xox"},
		regexp.MustCompile(`\b(?:hf_[A-Za-z0-9]{12,}|sk-[A-Za-z0-9_-]{12,}|nvapi-[A-Za-z0-9_-]{12,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{12,}|xox[a-z]-[A-Za-z0-9-]{10,})`), 0, true},
	{"aws-key", []string{"akia", "asia"}, regexp.MustCompile(`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`), 0, true},
	{"authorization", []string{"bearer", "basic"}, regexp.MustCompile(`(?i)\b(?:bearer|basic)[ \t]+([A-Za-z0-9._~+/=-]{6,})`), 1, false},
	{"url-credentials", []string{"://"}, regexp.MustCompile(`://([^/\s"'<>@]+)@`), 1, false},
	{"email", []string{"@"}, regexp.MustCompile(`\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b`), 0, false},
}

// keyWords must be found before keyValue is tried, which is slow on long logs.
var keyWords = []string{"pass", "pwd", "secret", "token", "key", "credential", "private", "auth", "bearer", "cookie", "session",
	"license", "dsn", "webhook", "connection"}

// keyValue finds KEY=value, key: value, "key":"value", \"key\":\"value\" and --key value.
var keyValue = regexp.MustCompile(`(?i)((?:--?)?[\w.-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|credential|private|auth|bearer|cookie|session|license|dsn|webhook|connection)[\w.-]*)` +
	`(\\*["']?[ \t]*(?:[:=]|=>)[ \t]*)(?:\\*"((?:[^"\\]|\\[^"])+)|'([^']+)|([^\s"'\\,;}\])&]+))`)

var flagValue = regexp.MustCompile(`(?i)(--[\w-]*(?:pass|secret|token|api-?key|credential|auth)[\w-]*)[ \t]+([^\s-][^\s"']*)`)

// scrubPatterns runs all patterns over text, line by line but for PEM blocks.
func scrubPatterns(text []byte, hit func(rule string, n int)) []byte {
	text = scrubPEM(text, hit)
	if !bytes.ContainsAny(text, ":=@.-_ ") {
		return text
	}
	out := make([]byte, 0, len(text))
	for line := range bytes.Lines(text) {
		out = append(out, scrubLine(line, hit)...)
	}
	return out
}

func scrubLine(line []byte, hit func(string, int)) []byte {
	low := bytes.ToLower(line)
	for _, r := range rules {
		if containsAny(low, r.anchors) {
			line = maskGroup(line, r.expr, func(m []int) (int, int) { return m[2*r.group], m[2*r.group+1] }, r.name, hit)
		}
	}
	if !containsAny(low, keyWords) {
		return line
	}
	line = maskGroup(line, flagValue, func(m []int) (int, int) { return m[4], m[5] }, "flag", hit)
	src := line
	return maskGroup(line, keyValue, func(m []int) (int, int) { return keyValueSpan(src, m) }, "key-value", hit)
}

// keyValueSpan picks the value of a match, or nothing where key or value show that it is no secret.
func keyValueSpan(src []byte, m []int) (int, int) {
	for g := 3; g <= 5; g++ {
		from, end := m[2*g], m[2*g+1]
		if from < 0 {
			continue
		}
		key := strings.TrimLeft(string(src[m[2]:m[3]]), "-")
		if structural[strings.ToLower(key)] || !sensitiveValue(key, string(src[from:end])) {
			return -1, -1
		}
		return from, end
	}
	return -1, -1
}

func containsAny(low []byte, words []string) bool {
	for _, w := range words {
		if bytes.Contains(low, []byte(w)) {
			return true
		}
	}
	return false
}

func maskGroup(line []byte, expr *regexp.Regexp, pick func([]int) (int, int), name string, hit func(string, int)) []byte {
	found := expr.FindAllSubmatchIndex(line, -1)
	if found == nil {
		return line
	}
	var out []byte
	done, n := 0, 0
	for _, m := range found {
		from, end := pick(m)
		if from < 0 || string(line[from:end]) == mask {
			continue
		}
		out = append(append(out, line[done:from]...), mask...)
		done, n = end, n+1
	}
	if n == 0 {
		return line
	}
	hit(name, n)
	return append(out, line[done:]...)
}

var (
	pemBegin = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----`)
	pemEnd   = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY-----`)
)

// scrubPEM masks private keys. One whose beginning was cut off is masked from the start of the text, one without an
// end up to its end: better too much than a part of a key.
func scrubPEM(text []byte, hit func(string, int)) []byte {
	if !bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return text
	}
	var out []byte
	for {
		begin, end := pemBegin.FindIndex(text), pemEnd.FindIndex(text)
		switch {
		case begin == nil && end == nil:
			return append(out, text...)
		case end == nil:
			hit("private-key", 1)
			return append(append(out, text[:begin[0]]...), mask...)
		case begin == nil || end[0] < begin[0]:
			out = append(out, mask...)
		default:
			out = append(append(out, text[:begin[0]]...), mask...)
		}
		hit("private-key", 1)
		text = text[end[1]:]
	}
}

// hardHit names the first sure pattern that is in text, or is empty.
func hardHit(text []byte) string {
	if pemBegin.Match(text) {
		return "private-key"
	}
	low := bytes.ToLower(text)
	for _, r := range rules {
		if r.hard && containsAny(low, r.anchors) && r.expr.Match(text) {
			return r.name
		}
	}
	return ""
}
