// What two GitOps tools make of each object of a JSON array on the standard input. For each a line with what kstatus
// says, by which Flux judges every resource, and, behind a tab, what a health script for Argo CD says, run by the
// interpreter that Argo CD has:   kstatus HEALTH.lua < objects.json
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A table of Lua, as Argo CD makes it of an object.
func table(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		list := state.NewTable()
		for _, item := range value {
			list.Append(table(state, item))
		}
		return list
	case map[string]any:
		object := state.NewTable()
		for key, item := range value {
			object.RawSetString(key, table(state, item))
		}
		return object
	}
	return lua.LNil
}

func health(script string, object map[string]any) (string, error) {
	// Of Lua's libraries the script may use what Argo CD opens for it.
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), Protect: true}, lua.LString(library.name)); err != nil {
			return "", err
		}
	}
	state.SetGlobal("obj", table(state, object))
	if err := state.DoString(script); err != nil {
		return "", err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", fmt.Errorf("the script returned no table")
	}
	return fmt.Sprintf("%s: %s", answer.RawGetString("status"), answer.RawGetString("message")), nil
}

func run() error {
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var texts []json.RawMessage
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		return err
	}
	for _, text := range texts {
		var object unstructured.Unstructured
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		result, err := status.Compute(&object)
		if err != nil {
			return err
		}
		health, err := health(string(script), object.Object)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\t%s\n", result.Status, result.Message, health)
	}
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: kstatus HEALTH.lua < objects.json")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
