package revision

import (
	"encoding/json"
	"fmt"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
)

// checkSchemas refuses a chart whose values schema leads outside of itself: Helm would read files of this machine, or ask the network,
// for what a $ref names.
func checkSchemas(ch *chart.Chart) error {
	if len(ch.Schema) > 0 {
		var schema any
		if err := json.Unmarshal(ch.Schema, &schema); err != nil {
			return fmt.Errorf("chart %s: values.schema.json: %w", ch.ChartFullPath(), err)
		}
		if ref := leadsOut(schema); ref != "" {
			return fmt.Errorf("chart %s: values.schema.json leads to %.120q, outside of itself: write what that says into the schema, under $defs", ch.ChartFullPath(), ref)
		}
	}
	for _, sub := range ch.Dependencies() {
		if err := checkSchemas(sub); err != nil {
			return err
		}
	}
	return nil
}

// leadsOut finds a reference that does not begin with #, or a $schema or $id that is no well-known name; "" where there is none.
func leadsOut(v any) string {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if ref := leadsOut(e); ref != "" {
				return ref
			}
		}
	case map[string]any:
		for key, e := range v {
			text, isText := e.(string)
			switch {
			case !isText:
			case (key == "$ref" || key == "$dynamicRef" || key == "$recursiveRef") && !strings.HasPrefix(text, "#"):
				return text
			case key == "$schema" && !knownDraft(text):
				return text
			case key == "$id" && !strings.HasPrefix(text, "https://") && !strings.HasPrefix(text, "http://"):
				return text
			}
			if ref := leadsOut(e); ref != "" {
				return ref
			}
		}
	}
	return ""
}

// knownDraft tells the metaschemas that the validator carries.
func knownDraft(uri string) bool {
	rest, ok := strings.CutPrefix(uri, "https://json-schema.org/")
	if !ok {
		rest, ok = strings.CutPrefix(uri, "http://json-schema.org/")
	}
	rest = strings.TrimSuffix(rest, "#")
	if !ok {
		return false
	}
	for _, draft := range []string{"schema", "draft-04/schema", "draft-06/schema", "draft-07/schema", "draft/2019-09/schema", "draft/2020-12/schema"} {
		if rest == draft {
			return true
		}
	}
	return false
}
