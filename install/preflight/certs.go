package preflight

import (
	"fmt"
	"time"
)

// certWarning is how long before its end a certificate is reported.
const certWarning = 30 * 24 * time.Hour

func (c *checker) certTLS(string) {
	if !c.s.TLSSecrets.Read {
		c.unread("TLS Secrets", c.s.TLSSecrets.cause())
		return
	}
	if len(c.s.TLSSecrets.Value) == 0 {
		c.pass("the namespace has no TLS Secrets")
	}
	for _, t := range c.s.TLSSecrets.Value {
		if t.Problem != "" || len(t.Certs) == 0 {
			c.add(Result{Verdict: Unknown, Subject: "tls/" + t.Name,
				Message: fmt.Sprintf("tls/%s holds no readable certificate: %s", t.Name, orText(t.Problem, "tls.crt is empty")),
				Remedy:  "put a PEM certificate chain into tls.crt, or delete the Secret"})
			continue
		}
		c.certs("tls/"+t.Name, t.Certs, "renew the Secret "+t.Name)
	}
}

func orText(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (c *checker) certServer(string) {
	if !c.s.ServerCerts.Read || len(c.s.ServerCerts.Value) == 0 {
		c.unread("the API server's certificate", c.s.ServerCerts.cause())
		return
	}
	c.certs("API server", c.s.ServerCerts.Value, "renew the API server's certificates (kubeadm certs renew, or your distribution's way)")
}

// certs reports the certificate of a chain that ends first.
func (c *checker) certs(subject string, chain []Certificate, remedy string) {
	first := chain[0]
	for _, x := range chain[1:] {
		if x.NotAfter.Before(first.NotAfter) {
			first = x
		}
	}
	left := first.NotAfter.Sub(c.now)
	r := Result{Verdict: Pass, Subject: subject, Evidence: first,
		Message: fmt.Sprintf("%s: certificate of %s is good for %s", subject, first.Subject, days(left))}
	switch {
	case left <= 0:
		r.Verdict, r.Remedy = Fail, remedy
		r.Message = fmt.Sprintf("%s: certificate of %s expired %s ago, on %s", subject, first.Subject, days(-left), date(first.NotAfter))
	case left < certWarning:
		r.Verdict, r.Remedy = Warned, remedy
		r.Message = fmt.Sprintf("%s: certificate of %s expires in %s, on %s", subject, first.Subject, days(left), date(first.NotAfter))
	}
	for _, x := range chain {
		if x.NotBefore.After(c.now) && r.Verdict != Fail {
			r.Verdict, r.Remedy = Fail, "check the clocks; "+remedy
			r.Message = fmt.Sprintf("%s: certificate of %s begins only on %s", subject, x.Subject, date(x.NotBefore))
		}
	}
	c.add(r)
}

func date(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
