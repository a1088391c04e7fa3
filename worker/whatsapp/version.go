package whatsapp

import (
	"fmt"
	"sync"

	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/store"
	"google.golang.org/protobuf/proto"
)

var props sync.Once

// setProps says how phones list the linked device. whatsmeow keeps it for the whole process, and reads it whenever one is linked: the
// first engine has its way.
func setProps(name string) {
	props.Do(func() {
		store.DeviceProps.Os = proto.String(name)
		store.DeviceProps.PlatformType = waCompanionReg.DeviceProps_CHROME.Enum()
		store.DeviceProps.RequireFullSync = proto.Bool(false)
	})
}

// SetVersion says which version of WhatsApp Web this process claims to be, for the whole process: WhatsApp refuses old ones, and
// whatsmeow's is as old as its release. It is called before the first engine is made.
func SetVersion(text string) error {
	v, err := store.ParseVersion(text)
	if err != nil {
		return fmt.Errorf("%q is no version of WhatsApp Web, such as 2.3000.1023456789", text)
	}
	store.SetWAVersion(v)
	store.BaseClientPayload.UserAgent.AppVersion = v.ProtoAppVersion() // whatsmeow has copied the former one
	return nil
}

// Version is what this process claims to be.
func Version() string { return store.GetWAVersion().String() }
