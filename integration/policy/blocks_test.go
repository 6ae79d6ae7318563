package policy

import "strings"

// codeBlock is what stands between two fences of a document.
type codeBlock struct {
	language string // the first word behind the fence
	text     string
	line     int // of its first line
}

// blocks returns a document's code blocks.
func blocks(document string) (all []codeBlock) {
	var b *codeBlock
	for i, line := range strings.Split(document, "\n") {
		fence, info := strings.CutPrefix(line, "```")
		switch {
		case info && b == nil:
			language, _, _ := strings.Cut(fence, " ")
			b = &codeBlock{language: language, line: i + 2}
		case info:
			all, b = append(all, *b), nil
		case b != nil:
			b.text += line + "\n"
		}
	}
	return all
}
