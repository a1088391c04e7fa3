package kubernetes

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// place is one end of a connection: a pod by its labels, in a namespace by its name, or an address outside.
type place struct {
	pod       labels.Set
	namespace string
	address   string
}

// Who reaches whom, by the rules of NetworkPolicies: a connection needs the leave of both its ends, where policies mean them.
func TestWhoReachesWhom(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		at := func(workload string) place { return place{pod: v.workload(workload).labels(), namespace: v.namespace} }
		elsewhere := func(namespace string) place { return place{pod: labels.Set{"some": "pod"}, namespace: namespace} }
		outside := func(address string) place { return place{address: address} }
		postgres, redis := outside("10.1.2.3"), outside("10.1.2.4")
		if v.name == "simulator" {
			postgres, redis = at("kurir-postgres"), at("kurir-redis")
		}
		check := func(want bool, from place, to place, port int32) {
			t.Helper()
			require.Equal(t, want, v.reaches(from, to, port), "%v to %v at %d", from, to, port)
		}
		for _, name := range []string{"kurir-api", "kurir-runner", "kurir-scheduler", "kurir-migrate"} {
			check(true, at(name), postgres, 5432)
			check(true, at(name), redis, 6379)
			check(false, at(name), outside("169.254.169.254"), 80)
			check(false, at(name), outside("10.1.2.3"), 443)
		}
		for _, name := range []string{"kurir-scheduler", "kurir-migrate"} {
			check(false, at(name), outside("93.184.216.34"), 443)
			check(false, at(name), at("kurir-worker"), 8001)
		}
		for _, name := range []string{"kurir-api", "kurir-runner"} {
			check(true, at(name), outside("93.184.216.34"), 443)
			check(true, at(name), at("kurir-worker"), 8001)
			check(false, at(name), at("kurir-worker"), 9100)
		}

		worker := at("kurir-worker")
		check(true, worker, at("kurir-api"), 8081)
		check(false, worker, at("kurir-api"), 8000)
		check(false, worker, at("kurir-runner"), 9100)
		check(false, worker, worker, 8001)
		speaks := v.name != "simulator" // to WhatsApp, and keeps the phones' credentials
		check(speaks, worker, postgres, 5432)
		check(speaks, worker, outside("10.1.2.3"), 5432)
		check(false, worker, redis, 6379)
		check(false, worker, outside("10.1.2.3"), 6432)
		check(false, worker, outside("192.168.1.1"), 80)
		check(false, worker, outside("169.254.169.254"), 80)
		check(false, worker, outside("fd00::1"), 443)
		check(true, worker, outside("93.184.216.34"), 5222)
		check(true, worker, outside("2606:2800:220:1::1"), 443)

		for _, other := range []place{elsewhere("default"), elsewhere("ingress-nginx"), outside("93.184.216.34")} {
			check(true, other, at("kurir-api"), 8000)
			check(false, other, at("kurir-api"), 8081)
			check(false, other, worker, 8001)
			check(false, other, at("kurir-runner"), 9100)
		}
		watched := len(v.monitors) > 0
		check(watched, elsewhere("monitoring"), at("kurir-api"), 8081)
		check(watched, at("kurir-api"), elsewhere("monitoring"), 9090)
		check(false, at("kurir-runner"), elsewhere("monitoring"), 9090)
		for _, name := range []string{"kurir-runner", "kurir-scheduler", "kurir-worker"} {
			check(watched, elsewhere("monitoring"), at(name), 9100)
		}
		check(false, elsewhere("monitoring"), worker, 8001)

		if v.name == "simulator" {
			check(true, worker, at("kurir-simnet"), 8090)
			check(false, at("kurir-api"), at("kurir-simnet"), 8090)
			check(false, elsewhere("default"), at("kurir-simnet"), 8090)
			check(false, elsewhere("default"), postgres, 5432)
			check(false, at("kurir-simnet"), outside("93.184.216.34"), 443)
		}
		for _, w := range v.workloads {
			if w.isOurs() {
				check(true, at(w.name), elsewhere("kube-system"), 53)
				check(false, at(w.name), elsewhere("default"), 443)
			}
		}
	})
}

// reaches says whether a connection is let through.
func (v *variant) reaches(from, to place, port int32) bool {
	return v.lets(networkingv1.PolicyTypeEgress, from, to, port) && v.lets(networkingv1.PolicyTypeIngress, to, from, port)
}

// lets says whether the policies that mean own allow the other end.
func (v *variant) lets(way networkingv1.PolicyType, own, other place, port int32) bool {
	if own.namespace != v.namespace {
		return true // of which we say nothing
	}
	meant := false
	for _, p := range v.policies {
		if !has(p.Spec.PolicyTypes, way) || !isSelector(&p.Spec.PodSelector).Matches(own.pod) {
			continue
		}
		meant = true
		for _, r := range p.Spec.Egress {
			if way == networkingv1.PolicyTypeEgress && onPort(r.Ports, port) && v.among(r.To, other) {
				return true
			}
		}
		for _, r := range p.Spec.Ingress {
			if way == networkingv1.PolicyTypeIngress && onPort(r.Ports, port) && v.among(r.From, other) {
				return true
			}
		}
	}
	return !meant
}

func has(types []networkingv1.PolicyType, way networkingv1.PolicyType) bool {
	for _, t := range types {
		if t == way {
			return true
		}
	}
	return false
}

func onPort(ports []networkingv1.NetworkPolicyPort, port int32) bool {
	for _, p := range ports {
		if p.Port.IntVal == port {
			return true
		}
	}
	return len(ports) == 0
}

func (v *variant) among(peers []networkingv1.NetworkPolicyPeer, other place) bool {
	for _, p := range peers {
		if v.isPeer(p, other) {
			return true
		}
	}
	return len(peers) == 0
}

func (v *variant) isPeer(p networkingv1.NetworkPolicyPeer, other place) bool {
	if p.IPBlock != nil {
		return other.pod == nil && inBlock(p.IPBlock, netip.MustParseAddr(other.address)) // pods have addresses that nobody plans with
	}
	if other.pod == nil {
		return false
	}
	inNamespace := other.namespace == v.namespace
	if p.NamespaceSelector != nil {
		inNamespace = isSelector(p.NamespaceSelector).Matches(labels.Set{"kubernetes.io/metadata.name": other.namespace})
	}
	return inNamespace && (p.PodSelector == nil || isSelector(p.PodSelector).Matches(other.pod))
}

func inBlock(b *networkingv1.IPBlock, address netip.Addr) bool {
	in := netip.MustParsePrefix(b.CIDR).Contains(address)
	for _, except := range b.Except {
		in = in && !netip.MustParsePrefix(except).Contains(address)
	}
	return in
}

// An API server refuses a block whose exceptions are outside of it, and so does this.
func TestBlocksHoldTheirExceptions(t *testing.T) {
	eachVariant(t, func(t *testing.T, v *variant) {
		for _, p := range v.policies {
			for _, r := range p.Spec.Egress {
				for _, peer := range r.To {
					if peer.IPBlock == nil {
						continue
					}
					all := netip.MustParsePrefix(peer.IPBlock.CIDR)
					require.Equal(t, all.Masked(), all)
					for _, text := range peer.IPBlock.Except {
						except := netip.MustParsePrefix(text)
						require.Equal(t, except.Masked(), except)
						require.True(t, all.Overlaps(except) && except.Bits() > all.Bits(), "%s in %s", except, all)
					}
				}
			}
		}
	})
}
