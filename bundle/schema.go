package bundle

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/invopop/jsonschema"
	"github.com/opencontainers/go-digest"
)

// Schema is the JSON Schema of a form: definition (bundle.yaml), release (release.json) or patch (patch.json), made from
// the Go types.
func Schema(form string) ([]byte, error) {
	forms := map[string]any{"definition": &Definition{}, "release": &Release{}, "patch": &Patch{}}
	v, ok := forms[form]
	if !ok {
		return nil, fmt.Errorf("there is no form %.40q: definition, release or patch", form)
	}
	r := &jsonschema.Reflector{
		ExpandedStruct: true,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if t == reflect.TypeFor[digest.Digest]() {
				return &jsonschema.Schema{Type: "string", Pattern: digestForm.String()}
			}
			return nil
		},
	}
	return json.MarshalIndent(r.Reflect(v), "", "  ")
}
