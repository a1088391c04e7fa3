// Package kubernetes holds deploy/kubernetes to what Kubernetes and Kurir take: each variant is built by kustomize as kubectl does,
// read by the types of the API with nothing left over, and compared with the program. It is a module of its own, so that the
// libraries of Kubernetes stay out of ours. There is no cluster here: what only a cluster shows is not shown.
package kubernetes
