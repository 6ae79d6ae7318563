package rulestest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// Write writes the report as text: each test that failed with what differs, and a last line that counts.
func (r *Report) Write(w io.Writer) error {
	var b strings.Builder
	for i := range r.Results {
		t := &r.Results[i]
		if len(t.Failure) == 0 {
			fmt.Fprintf(&b, "ok    %s\n", t.Name)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s\n      %s:%d\n", t.Name, r.File, t.Line)
		for _, line := range t.Failure {
			fmt.Fprintf(&b, "      %s\n", strings.ReplaceAll(line, "\n", "\n      "))
		}
	}
	switch failed := r.Failed(); {
	case len(r.Results) == 0:
		b.WriteString("no test has such a name\n")
	case failed > 0:
		fmt.Fprintf(&b, "%d of %d failed (- expected and missing, + not expected)\n", failed, len(r.Results))
	default:
		fmt.Fprintf(&b, "%d passed\n", len(r.Results))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit's XML, which CI systems read.
func (r *Report) WriteJUnit(w io.Writer) error {
	s := junitSuite{Name: r.File, Tests: len(r.Results), Failures: r.Failed()}
	total := 0.0
	for i := range r.Results {
		t := &r.Results[i]
		c := junitCase{Class: r.Rules, Name: t.Name, File: r.File, Line: t.Line, Time: fmt.Sprintf("%.6f", t.Elapsed.Seconds())}
		if len(t.Failure) > 0 {
			c.Failure = &junitFailure{Message: t.Failure[0], Text: strings.Join(t.Failure, "\n")}
		}
		total += t.Elapsed.Seconds()
		s.Cases = append(s.Cases, c)
	}
	s.Time = fmt.Sprintf("%.6f", total)
	text, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write JUnit XML: %w", err)
	}
	_, err = io.WriteString(w, xml.Header+string(text)+"\n")
	return err
}
