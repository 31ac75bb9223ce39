"""The fields of a Pod: what minipod supports, what has no meaning on one machine, and what it does not do yet. Data only.

One line per field:

    name type       supported; types: str int bool quantity intOrString map (of strings), another entry's name, or [] of one
    name type but   supported, but for what is said after the type
    name ~ why      accepted with a warning: it has no meaning here
    name ! why      refused (a warning with --lenient)
    later: names    refused like that, too: not built yet

Here are the pod's own; its containers and volumes have tables of their own. docs/pod-fields.md is generated from all three.
"""

from __future__ import annotations

from minipod.api.pod_schema_containers import CONTAINERS
from minipod.api.pod_schema_volumes import VOLUMES

POD = """
Pod
    apiVersion str
    kind str
    metadata Metadata
    spec PodSpec
    status any

Metadata
    name str
    generateName str
    namespace str
    labels map
    annotations map
    uid str
    resourceVersion str
    creationTimestamp any
    deletionTimestamp any
    deletionGracePeriodSeconds int
    generation int
    managedFields any
    selfLink str
    finalizers []str
    ownerReferences any

PodSpec
    containers []Container
    initContainers []Container
    ephemeralContainers []EphemeralContainer
    volumes []Volume
    restartPolicy str
    terminationGracePeriodSeconds int
    activeDeadlineSeconds int
    hostNetwork bool
    hostname str
    subdomain str
    dnsPolicy str
    dnsConfig DnsConfig
    hostAliases []HostAlias
    securityContext PodSecurityContext
    nodeName str
    enableServiceLinks bool
    hostIPC bool
    hostPID bool
    shareProcessNamespace bool
    setHostnameAsFQDN bool
    readinessGates []ReadinessGate
    imagePullSecrets []LocalObjectReference
    os PodOS
    affinity Affinity
    tolerations []Toleration for taints with the effect NoExecute; there is no scheduler that would mind others
    nodeSelector map
    preemptionPolicy ~ there is one node to run on
    schedulerName ~ there is one node to run on
    topologySpreadConstraints ~ there is one node to run on
    resourceClaims ! dynamic resource allocation needs drivers that minipod does not have
    schedulingGates ! there is no scheduler that would wait
    priority int
    priorityClassName str
    serviceAccountName str
    serviceAccount str
    automountServiceAccountToken bool
    overhead quantities only what the RuntimeClass says
    hostUsers bool false: 65536 ids of the node's for the pod; volumes on file systems that can be id-mapped
    runtimeClassName str
    resources PodResources
    hostnameOverride str

LocalObjectReference
    name str

Affinity
    nodeAffinity NodeAffinity
    podAffinity ~ there is one node to run on
    podAntiAffinity ~ there is one node to run on

NodeAffinity
    requiredDuringSchedulingIgnoredDuringExecution NodeSelector
    preferredDuringSchedulingIgnoredDuringExecution ~ there is one node to run on

NodeSelector
    nodeSelectorTerms []NodeSelectorTerm

NodeSelectorTerm
    matchExpressions []NodeSelectorRequirement
    matchFields []NodeSelectorRequirement

NodeSelectorRequirement
    key str
    operator str
    values []str

Toleration
    key str
    operator str
    value str
    effect str
    tolerationSeconds int

PodOS
    name str

ReadinessGate
    conditionType str

PodSecurityContext
    runAsUser int
    runAsGroup int
    runAsNonRoot bool
    fsGroup int
    supplementalGroups []int
    sysctls []Sysctl
    seccompProfile SeccompProfile
    appArmorProfile AppArmorProfile where the kernel has AppArmor: elsewhere a pod that wants a profile is rejected
    fsGroupChangePolicy str
    supplementalGroupsPolicy str
    seLinuxChangePolicy ~ SELinux is not used by minipod
    seLinuxOptions ~ SELinux is not used by minipod
    windowsOptions ! only for Windows

Sysctl
    name str
    value str

DnsConfig
    nameservers []str
    searches []str
    options []DnsOption

DnsOption
    name str
    value str

HostAlias
    ip str
    hostnames []str

PodResources
    limits quantities
    requests quantities
    claims ! dynamic resource allocation needs drivers that minipod does not have
"""

TABLE = "\n".join((POD, CONTAINERS, VOLUMES))
