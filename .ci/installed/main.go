// Command installed prints the versions of PostgreSQL and Redis that the tests will find on this machine, one a line, and
// an empty line for one that is missing. It is for .ci/servers.
package main

import (
	"context"
	"fmt"

	"kurir/embedded"
)

func main() {
	postgres, redis := embedded.Installed(context.Background())
	fmt.Println(postgres)
	fmt.Println(redis)
}
