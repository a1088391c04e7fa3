package main

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"kurir/api"
)

// settings is the configuration as administrators may see it. Of secrets it only says whether they are set; of an address it leaves
// out what may be one: user, path and query.
func (c *config) settings() []api.Setting {
	var list []api.Setting
	v, t := reflect.ValueOf(*c), reflect.TypeFor[config]()
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("env")
		if name == "" {
			continue
		}
		s := api.Setting{Name: name, Given: c.explicit[name], Secret: t.Field(i).Tag.Get("secret") != ""}
		if s.Value = settingText(v.Field(i).Interface()); s.Secret {
			s.Value = map[bool]string{true: "not set", false: "set"}[v.Field(i).IsZero()]
		}
		list = append(list, s)
	}
	return list
}

func settingText(value any) string {
	switch v := value.(type) {
	case duration:
		return time.Duration(v).String()
	case millis:
		return time.Duration(v).String()
	case []string:
		return strings.Join(v, ",")
	case string:
		if u, err := url.Parse(v); err == nil && u.Scheme != "" && u.Host != "" {
			return u.Scheme + "://" + u.Host
		}
		return v
	}
	return fmt.Sprint(value)
}
