package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is the unit of /proc/PID/stat, the same on every Linux.
const ticksPerSecond = 100

// usage is what processes have used, by name. Where there is no /proc it is empty.
type usage map[string]used

type used struct {
	CPU      float64 `json:"cpu_seconds"`
	Resident int64   `json:"resident_max_bytes"` // the most so far
}

func measureUsage(processes map[string]int) usage {
	all := usage{}
	for name, pid := range processes {
		if cpu, err := cpuSeconds(pid); err == nil {
			all[name] = used{CPU: cpu, Resident: residentMax(pid)}
		}
	}
	return all
}

// total is the CPU of all.
func (u usage) total() (seconds float64) {
	for _, process := range u {
		seconds += process.CPU
	}
	return seconds
}

// since is the CPU that was used after an earlier measurement, and the memory of the later one.
func (u usage) since(before usage) usage {
	all := usage{}
	for name, now := range u {
		all[name] = used{CPU: now.CPU - before[name].CPU, Resident: now.Resident}
	}
	return all
}

// cpuSeconds is user and system time, all threads together.
func cpuSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read process state: %w", err)
	}
	// The name in parentheses may hold anything. After it come the state, and as 12th and 13th the times.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const user, system = 11, 12
	if len(fields) <= system {
		return 0, fmt.Errorf("read process state: %q", text)
	}
	ticks := 0.0
	for _, i := range []int{user, system} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("read process state: %w", err)
		}
		ticks += n
	}
	return ticks / ticksPerSecond, nil
}

// residentMax is the most memory that the process has had resident, in bytes, or 0 where that is not told.
func residentMax(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
		return 0
	}
	return kilobytes << 10
}

// busySeconds is the time that all cores together have not been idle, what a hypervisor took away included, or 0 where that
// is not told.
func busySeconds() float64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	// After the word cpu: user, nice, system, idle, iowait, irq, softirq, steal. What follows is in user already.
	const idle, iowait, last = 4, 5, 8
	ticks := 0.0
	for i, field := range strings.Fields(first) {
		if n, err := strconv.ParseFloat(field, 64); err == nil && i <= last && i != idle && i != iowait {
			ticks += n
		}
	}
	return ticks / ticksPerSecond
}
