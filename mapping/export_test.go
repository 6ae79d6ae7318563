package mapping

// Fields are the fields that the parser knows, by what they stand in.
func Fields() map[string][]string {
	return map[string][]string{
		"file": fileFields, "rule": ruleFields, "refresh": refreshFields, "purge": purgeFields, "request": requestFields,
		"defaults":        append(append([]string{}, defaultFields...), "refresh", "purge"),
		"refresh options": refreshOptions, "purge options": purgeOptions,
		"cache": {"redis", "guard"}, "tenant": {"column"},
	}
}

// PurgeMethods are the methods that a purge may use.
func PurgeMethods() []string { return purgeMethods }
