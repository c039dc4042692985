// The real Vault server, built from its Go module for the tests. Nothing of it
// is linked into stanch or shipped.
package main

import (
	"os"

	"github.com/hashicorp/vault/command"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
