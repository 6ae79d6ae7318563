// Package config is the settings of both programs: their names, defaults and meaning, and how a program starts and ends.
//
// Its promise: a setting comes from its flag, else its environment variable, else its default; every mistake is
// reported at once, with the setting's name and what to write instead; and no secret is ever printed.
package config
