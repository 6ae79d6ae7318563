// Command hello is what testkit's own tests build and run.
package main

import (
	"fmt"
	"os"
	"runtime/debug"
)

func main() {
	info, _ := debug.ReadBuildInfo()
	race := "false"
	for _, s := range info.Settings {
		if s.Key == "-race" {
			race = s.Value
		}
	}
	fmt.Fprintf(os.Stderr, "{\"msg\":\"hello\",\"race\":%s}\n", race)
}
