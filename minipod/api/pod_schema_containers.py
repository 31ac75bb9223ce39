"""The fields of a Pod's containers; `pod_schema` explains the lines. Data only."""

from __future__ import annotations

CONTAINERS = """
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
    protocol str SCTP where the kernel has it (its module sctp)
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
    appArmorProfile AppArmorProfile where the kernel has AppArmor: elsewhere a pod that wants a profile is rejected
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

ResizePolicy
    resourceName str
    restartPolicy str
"""
