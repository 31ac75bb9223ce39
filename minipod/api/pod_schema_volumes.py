"""The fields of a Pod's volumes; `pod_schema` explains the lines. Data only."""

from __future__ import annotations

VOLUMES = """
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
"""
