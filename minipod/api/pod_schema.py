"""The fields of a Pod: what minipod supports, what has no meaning on one machine, and what it does not do yet. Data only.

One line per field:

    name type       supported; types: str int bool quantity intOrString map (of strings), another entry's name, or [] of one
    name type but   supported, but for what is said after the type
    name ~ why      accepted with a warning: it has no meaning here
    name ! why      refused (a warning with --lenient)
    later: names    refused like that, too: not built yet

docs/pod-fields.md is generated from here.
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
    affinity ~ there is one node to run on
    tolerations ~ the node has no taints
    nodeSelector ~ there is one node to run on
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
    overhead ! a RuntimeClass sets it, and minipod has one runtime
    hostUsers bool only true: pods in user namespaces of their own are not built yet
    runtimeClassName ! minipod has one runtime
    resources PodResources
    hostnameOverride str

LocalObjectReference
    name str

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
    restartPolicy str
    restartPolicyRules []RestartRule
    envFrom []EnvFrom
    volumeDevices ! a PersistentVolume is a directory here, not a block device
    resizePolicy []ResizePolicy

EphemeralContainer
    name str
    image str
    targetContainerName str
    command []str
    args []str
    workingDir str
    env []EnvVar
    volumeMounts []VolumeMount
    imagePullPolicy str
    securityContext SecurityContext
    stdin bool
    stdinOnce bool
    tty bool
    terminationMessagePath str
    terminationMessagePolicy str
    resources EphemeralResources
    ports ! an ephemeral container has none
    livenessProbe ! an ephemeral container has none
    readinessProbe ! an ephemeral container has none
    startupProbe ! an ephemeral container has none
    lifecycle ! an ephemeral container has none
    restartPolicy ! an ephemeral container runs once
    restartPolicyRules ! an ephemeral container runs once
    resizePolicy ! an ephemeral container has no resources
    envFrom []EnvFrom

EphemeralResources
    limits ! an ephemeral container has no resources
    requests ! an ephemeral container has no resources

RestartRule
    action str
    exitCodes RestartExitCodes

RestartExitCodes
    operator str
    values []int

EnvVar
    name str
    value str
    valueFrom EnvVarSource

EnvVarSource
    fieldRef FieldRef
    resourceFieldRef ResourceFieldRef
    configMapKeyRef KeyRef
    secretKeyRef KeyRef
    fileKeyRef FileKeyRef

KeyRef
    name str
    key str
    optional bool

FileKeyRef
    volumeName str
    path str
    key str
    optional bool

EnvFrom
    prefix str
    configMapRef ObjectRef
    secretRef ObjectRef

ObjectRef
    name str
    optional bool

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
    hostPort int
    hostIP str not ::1, which Linux routes to no pod

Resources
    limits quantities
    requests quantities
    claims ! dynamic resource allocation needs drivers that minipod does not have

VolumeMount
    name str
    mountPath str
    readOnly bool
    subPath str
    mountPropagation str
    recursiveReadOnly str
    subPathExpr str

Probe
    exec ExecAction
    httpGet HttpGet
    tcpSocket TcpSocket
    initialDelaySeconds int
    timeoutSeconds int
    periodSeconds int
    successThreshold int
    failureThreshold int
    grpc GrpcAction
    terminationGracePeriodSeconds int

GrpcAction
    port int
    service str

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
    stopSignal str

Hook
    exec ExecAction
    httpGet HttpGet
    tcpSocket TcpSocket
    sleep Sleep

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
    appArmorProfile AppArmorProfile only Unconfined: a pod that wants another is rejected (reason AppArmor)
    procMount str
    seLinuxOptions ~ SELinux is not used by minipod
    windowsOptions ! only for Windows

Capabilities
    add []str
    drop []str

SeccompProfile
    type str
    localhostProfile str

AppArmorProfile
    type str
    localhostProfile str

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
    appArmorProfile AppArmorProfile only Unconfined: a pod that wants another is rejected (reason AppArmor)
    fsGroupChangePolicy str
    supplementalGroupsPolicy str
    seLinuxChangePolicy ~ SELinux is not used by minipod
    seLinuxOptions ~ SELinux is not used by minipod
    windowsOptions ! only for Windows

Sysctl
    name str
    value str

Volume
    name str
    emptyDir EmptyDir
    hostPath HostPath
    nfs ! mount it on the host and use hostPath, or a PersistentVolume of type local
    iscsi ! attach it on the host and use hostPath, or a PersistentVolume of type local
    fc ! attach it on the host and use hostPath, or a PersistentVolume of type local
    csi ! minipod has no CSI drivers
    flexVolume ! minipod has no volume plugins
    gitRepo ! Kubernetes removed it: clone in an init container, into an emptyDir
    awsElasticBlockStore ! a cloud's disk
    azureDisk ! a cloud's disk
    azureFile ! a cloud's share
    cephfs ! Kubernetes removed it
    cinder ! a cloud's disk
    flocker ! Kubernetes removed it
    gcePersistentDisk ! a cloud's disk
    glusterfs ! Kubernetes removed it
    photonPersistentDisk ! Kubernetes removed it
    portworxVolume ! minipod has no CSI drivers
    quobyte ! Kubernetes removed it
    rbd ! Kubernetes removed it
    scaleIO ! Kubernetes removed it
    storageos ! Kubernetes removed it
    vsphereVolume ! a cloud's disk
    configMap ConfigMapVolume
    secret SecretVolume
    downwardAPI DownwardVolume
    projected Projected
    persistentVolumeClaim ClaimVolume
    ephemeral EphemeralVolume
    image ImageVolume

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

ConfigMapVolume
    name str
    items []KeyToPath
    defaultMode int
    optional bool

SecretVolume
    secretName str
    items []KeyToPath
    defaultMode int
    optional bool

KeyToPath
    key str
    path str
    mode int

DownwardVolume
    items []DownwardFile
    defaultMode int

DownwardFile
    path str
    fieldRef FieldRef
    resourceFieldRef ResourceFieldRef
    mode int

Projected
    sources []Projection
    defaultMode int

Projection
    configMap ProjectedObject
    secret ProjectedObject
    downwardAPI DownwardProjection
    serviceAccountToken TokenProjection
    clusterTrustBundle ! minipod has no trust bundles
    podCertificate ! minipod signs no certificates for pods

ProjectedObject
    name str
    items []KeyToPath
    optional bool

DownwardProjection
    items []DownwardFile

TokenProjection
    audience str
    expirationSeconds int
    path str

ClaimVolume
    claimName str
    readOnly bool

EphemeralVolume
    volumeClaimTemplate ClaimTemplate

ClaimTemplate
    metadata any
    spec any

ImageVolume
    reference str
    pullPolicy str

PodResources
    limits quantities
    requests quantities
    claims ! dynamic resource allocation needs drivers that minipod does not have

ResizePolicy
    resourceName str
    restartPolicy str
"""
