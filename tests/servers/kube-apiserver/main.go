// The real API server of Kubernetes, built from its Go module for the tests. Nothing of it
// is linked into stanch or shipped.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
