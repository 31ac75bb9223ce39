"""The fields of a Pod: what minipod supports, what has no meaning on one machine, and what it does not do yet. Data only.

One line per field: `name type`. Types: str int bool quantity intOrString map (of strings), another entry's name, or [] of one.
A field after `later:` is known to Kubernetes and refused (or, with --lenient, warned about); after `meaningless:` it is
accepted with a warning. docs/pod-fields.md is generated from here.
"""

from __future__ import annotations

TABLE = """
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
    meaningless: affinity tolerations nodeSelector priority priorityClassName preemptionPolicy schedulerName topologySpreadConstraints overhead serviceAccountName serviceAccount automountServiceAccountToken
    later: ephemeralContainers hostIPC hostPID hostUsers imagePullSecrets os readinessGates resourceClaims runtimeClassName schedulingGates setHostnameAsFQDN shareProcessNamespace resources hostnameOverride

Container
    name str
    image str
    command []str
    args []str
    workingDir str
    env []EnvVar
    ports []Port
    resources Resources
    volumeMounts []VolumeMount
    livenessProbe Probe
    readinessProbe Probe
    startupProbe Probe
    lifecycle Lifecycle
    imagePullPolicy str
    securityContext SecurityContext
    stdin bool
    stdinOnce bool
    tty bool
    terminationMessagePath str
    terminationMessagePolicy str
    later: envFrom volumeDevices resizePolicy restartPolicy restartPolicyRules

EnvVar
    name str
    value str
    valueFrom EnvVarSource

EnvVarSource
    fieldRef FieldRef
    resourceFieldRef ResourceFieldRef
    later: configMapKeyRef secretKeyRef fileKeyRef

FieldRef
    apiVersion str
    fieldPath str

ResourceFieldRef
    containerName str
    resource str
    divisor quantity

Port
    name str
    containerPort int
    protocol str
    later: hostPort hostIP

Resources
    limits quantities
    requests quantities
    later: claims

VolumeMount
    name str
    mountPath str
    readOnly bool
    subPath str
    mountPropagation str
    recursiveReadOnly str
    later: subPathExpr

Probe
    exec ExecAction
    httpGet HttpGet
    tcpSocket TcpSocket
    initialDelaySeconds int
    timeoutSeconds int
    periodSeconds int
    successThreshold int
    failureThreshold int
    terminationGracePeriodSeconds int
    later: grpc

ExecAction
    command []str

HttpGet
    path str
    port intOrString
    host str
    scheme str
    httpHeaders []HttpHeader

HttpHeader
    name str
    value str

TcpSocket
    port intOrString
    host str

Lifecycle
    postStart Hook
    preStop Hook
    later: stopSignal

Hook
    exec ExecAction
    httpGet HttpGet
    sleep Sleep
    later: tcpSocket

Sleep
    seconds int

SecurityContext
    privileged bool
    runAsUser int
    runAsGroup int
    runAsNonRoot bool
    capabilities Capabilities
    allowPrivilegeEscalation bool
    readOnlyRootFilesystem bool
    seccompProfile SeccompProfile
    later: appArmorProfile procMount seLinuxOptions windowsOptions

Capabilities
    add []str
    drop []str

SeccompProfile
    type str
    later: localhostProfile

PodSecurityContext
    runAsUser int
    runAsGroup int
    runAsNonRoot bool
    fsGroup int
    supplementalGroups []int
    sysctls []Sysctl
    seccompProfile SeccompProfile
    later: appArmorProfile fsGroupChangePolicy seLinuxChangePolicy seLinuxOptions supplementalGroupsPolicy windowsOptions

Sysctl
    name str
    value str

Volume
    name str
    emptyDir EmptyDir
    hostPath HostPath
    later: configMap secret projected downwardAPI persistentVolumeClaim ephemeral csi image nfs iscsi awsElasticBlockStore azureDisk azureFile cephfs cinder fc flexVolume flocker gcePersistentDisk gitRepo glusterfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume

EmptyDir
    medium str
    sizeLimit quantity

HostPath
    path str
    type str

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
"""
