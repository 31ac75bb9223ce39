"""Before a container starts: is its image here, must it be pulled, may it be tried again (image
backoff).

EnsureImageExists (K8S pkg/kubelet/images/image_manager.go). Owns the pull backoff of one pod; the
key is the image, the delays are those of crash loops. Of several credentials that fit, each is tried
(kuberuntime_image.go).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from minipod.errors import ImageError, MinipodError
from minipod.kubelet import pull_secrets
from minipod.kubelet.rules.observed import Backoff
from minipod.kubelet.rules.restart import INITIAL, MAXIMUM
from minipod.spec.registry import ANONYMOUS

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.pods import Container, Pod
    from minipod.runtime.service import ImageStatus


class ImagePuller:
    """The images of one pod."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._backoff: dict[str, Backoff] = {}

    async def present(self, pod: Pod, container: Container) -> bool:
        """Whether the image is here and may be used as it is. Takes no time. Raises ImageError with the waiting reason."""
        usable = _usable(container, await self._status(pod, container))
        if usable:
            message = f'Container image "{container.image}" already present on machine'
            self._context.recorder.normal(pod, "Pulled", message, container)
        return usable

    async def usable(self, container: Container) -> bool:
        """The same, and nobody is told. Raises ImageError."""
        return _usable(container, await self._context.images.image_status(container.image))

    async def ensure(self, pod: Pod, container: Container) -> None:
        """Return with the image present. Raises ImageError with the waiting reason."""
        image, policy = container.image, container.image_pull_policy
        recorder = self._context.recorder
        if await self.present(pod, container):
            return
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            recorder.warning(pod, "ErrImageNeverPull", message, container)
            raise ImageError(message, reason="ErrImageNeverPull")
        self._refuse_in_backoff(pod, container)
        await self._pull(pod, container)

    def retry_at(self, image: str) -> float | None:
        """When the next pull may be tried."""
        entry = self._backoff.get(image)
        return None if entry is None else entry.decided_at + entry.delay

    async def _status(self, pod: Pod, container: Container) -> ImageStatus | None:
        try:
            return await self._context.images.image_status(container.image)
        except ImageError as error:
            if error.reason == "InvalidImageName":
                message = f'Failed to apply default image tag "{container.image}": {error.message}'
            else:
                message = f'Failed to inspect image "{container.image}": {error.message}'
            self._context.recorder.warning(pod, "InspectFailed", message, container)
            raise ImageError(message, reason=error.reason, hint=error.hint) from error

    def _refuse_in_backoff(self, pod: Pod, container: Container) -> None:
        due = self.retry_at(container.image)
        if due is not None and self._context.clock() < due:
            message = f'Back-off pulling image "{container.image}"'
            self._context.recorder.normal(pod, "BackOff", message, container)
            raise ImageError(message, reason="ImagePullBackOff")

    async def _pull(self, pod: Pod, container: Container) -> None:
        image, context = container.image, self._context
        context.recorder.normal(pod, "Pulling", f'Pulling image "{image}"', container)
        began = context.clock()
        try:
            await self._try_each(pod, image)
        except MinipodError as error:
            self._back_off(image)
            message = f'Failed to pull image "{image}": {error.message}'
            context.recorder.warning(pod, "Failed", message, container)
            reason = error.reason if isinstance(error, ImageError) else "ErrImagePull"
            context.recorder.warning(pod, "Failed", f"Error: {reason}", container)
            raise ImageError(error.message, reason=reason) from error
        self._backoff.pop(image, None)
        took = go_duration(context.clock() - began)
        message = f'Successfully pulled image "{image}" in {took}'
        context.recorder.normal(pod, "Pulled", message, container)

    async def _try_each(self, pod: Pod, image: str) -> None:
        """Pull with each of the credentials that fit until one works; the last failure is the answer."""
        fitting = await pull_secrets.credentials(self._context, pod, image) or [ANONYMOUS]
        for auth in fitting[:-1]:
            try:
                await self._context.images.pull_image(image, auth)
            except ImageError:
                continue  # perhaps another password is the right one
            else:
                return
        await self._context.images.pull_image(image, fitting[-1])

    def _back_off(self, image: str) -> None:
        """flowcontrol.Backoff.Next: doubles, and forgets what is older than twice the maximum."""
        now, before = self._context.clock(), self._backoff.get(image)
        if before is None or now - before.decided_at > 2 * MAXIMUM:
            self._backoff[image] = Backoff(delay=INITIAL, decided_at=now)
        else:
            delay = min(before.delay * 2, MAXIMUM)
            self._backoff[image] = Backoff(delay=delay, decided_at=now)


def _usable(container: Container, found: ImageStatus | None) -> bool:
    """Whether it may be used without a pull: of an image that was made from a recipe on this node, no registry has a newer one."""
    return found is not None and (container.image_pull_policy != "Always" or found.made_here)


def go_duration(seconds: float) -> str:
    """Print a duration as Go does, rounded to milliseconds: 85ms, 1.2s, 2m3.05s."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms" if ms else "0s"
    minutes, rest = divmod(ms, 60_000)
    text = re.sub(r"\.?0+$", "", f"{rest / 1000:.3f}") or "0"
    return f"{minutes}m{text}s" if minutes else f"{text}s"
