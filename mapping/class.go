package mapping

import (
	"math"
	"strconv"
	"strings"

	"github.com/expr-lang/expr/types"
)

// truth is what a condition comes to.
type truth uint8

const (
	unknown truth = iota
	no
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// class is what a column's values are compared as.
type class uint8

const (
	classText   class = iota
	classPadded       // char(n), whose trailing spaces mean nothing
	classBool
	classInt
	classFloat
	classNumeric
	classUnknown // the event does not say
)

// classOf returns the class of a type by its oid. Types that are not here, domains included, are compared as their text.
func classOf(oid uint32) class {
	switch oid {
	case 16:
		return classBool
	case 20, 21, 23, 26: // bigint, smallint, integer, oid
		return classInt
	case 1042:
		return classPadded
	case 700, 701:
		return classFloat
	case 1700:
		return classNumeric
	case 0:
		return classUnknown
	}
	return classText
}

func (c class) exprType() types.Type {
	switch c {
	case classBool:
		return types.Bool
	case classInt:
		return types.Int
	case classFloat, classNumeric:
		return types.Float64
	case classText, classPadded:
		return types.String
	}
	return types.Any
}

// exactDigits is how many significant digits a float64 keeps apart, whatever the exponent.
const exactDigits = 15

// value reads PostgreSQL's text of a value; false where it cannot be compared exactly.
func (c class) value(text string) (any, bool) {
	switch c {
	case classBool:
		return text == "true", text == "true" || text == "false"
	case classInt:
		i, err := strconv.ParseInt(text, 10, 0)
		return int(i), err == nil
	case classFloat, classNumeric:
		f, err := strconv.ParseFloat(text, 64)
		exact := c == classFloat || significant(text) <= exactDigits
		return f, err == nil && exact && !math.IsNaN(f)
	case classText:
		return text, true
	case classPadded:
		return strings.TrimRight(text, " "), true
	}
	return nil, false
}

// significant counts the digits of a number, without leading zeros.
func significant(text string) int {
	n := 0
	for _, c := range []byte(text) {
		if c >= '0' && c <= '9' && (n > 0 || c != '0') {
			n++
		}
	}
	return n
}
