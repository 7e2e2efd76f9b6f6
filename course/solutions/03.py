# %% 3.1
guess = (10, 128, 7, 7)
# note: Stage 1 keeps the side of 28 and has 32 channels; twice halved and twice doubled. Channels last, (10, 7, 7, 128), is
# note: how TensorFlow and matplotlib would have it.

# %% 3.2
def tap_of(net, stage, x):
    "The output of one stage, ready to learn from"
    with tapped(net, [stage]) as taps: net(x)
    return taps[stage]
# note: Three faults: detached, never removed, and not removed when the network raises. `try: ... finally: hook.remove()` is
# note: as good, and so is `net.forward_to(x, stage)`, which needs no hook and does not even run what comes behind the stage.

# %% 3.3
def at_each_pixel(tap, W, b):
    "A matrix and a constant, applied to the channels of each pixel"
    return torch.einsum('dc,bchw->bdhw', W, tap) + b[:, None, None]
# note: `W @ tap` multiplies the wrong axes (it takes height and width for the matrix). With c = d a transposed W gives the
# note: right shape and wrong numbers, so the check uses a square matrix too.

# %% 3.4
guess = {'shuffled', 'mixed', 'stretched'}
# note: These three can be undone at each pixel by a matrix and a constant. 'coarse' and 'halved' lose something; 'shifted'
# note: and 'mirrored' lose (nearly) nothing, and still a 1x1 convolution cannot undo them: it cannot look at another pixel.
# note: Many expect it of 'mirrored'.

# %% 3.5
def my_adapter(tap_shape, hint_shape):
    "A module that maps (b,*tap_shape) to (b,*hint_shape)"
    (c, *side), (d, *target) = tap_shape, hint_shape
    if (c, side) == (d, target): return torch.nn.Identity()
    conv = torch.nn.Conv2d(c, d, 1)
    if side == target: return conv
    resize = torch.nn.AdaptiveAvgPool2d(target) if side > target else torch.nn.Upsample(size=target, mode='bilinear')
    return torch.nn.Sequential(resize, conv)
# note: `make_adapter` of the package passes. Common mistakes: a convolution also where nothing is to adapt; a 3x3 window,
# note: which lets the adapter do the student's work; a ReLU at the end; pooling by the maximum, which is not linear.
