# %% 12.1
def my_net():
    "A network of your own, an nn.Module: (b,1,28,28) -> (b,10)"
    def step(c_in, c_out, stride):
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())
    return nn.Sequential(step(1, 16, 1), step(16, 32, 2), step(32, 64, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
# note: Any network passes that changes its resolution twice and is small. Too wide a last stage is the commonest reason for
# note: too many weights: 9 times 128 times 128 is 147,456.

# %% 12.2
def in_our_order(logits, theirs, ours):
    "The same answers, their columns in the order of our classes"
    return logits[:, [theirs.index(name) for name in ours]]
# note: The inverse permutation, `ours.index(name) for name in theirs`, is the common mistake; it goes unnoticed when two
# note: names are merely exchanged.

# %% 12.3
gigabytes = 32*28*28*4*10_000*4/1e9
# note: 100 kB an image, 4.0 GB in all. The usual slips: four bytes or four views forgotten.

# %% 12.4
settings = dict(epochs=8, head_epochs=4, views=2, budget='150 MB', half=True)
# note: Half precision and two views together; each alone is too large or computes too much. The validation images are
# note: remembered too.

# %% 12.5
def save(net, opt):
    "All that is needed to go on from here"
    return copy.deepcopy(dict(net=net.state_dict(), opt=opt.state_dict()))

def resume(net, opt, state):
    "Put net and opt back to where they were"
    net.load_state_dict(state['net'])
    opt.load_state_dict(state['opt'])
# note: state_dict() holds references: what was saved goes on learning. And without the optimizer's state AdamW starts again with empty running means and step 0.
# note: A file written by torch.save at once would have hidden the first bug. What else must a real run remember? The schedule, the order and views of the images, the random generators.

# %% 12.6
def answers(net, images, mean, std):
    "The logits of images that come from a camera"
    x = (images/255 - mean)/std
    return net.eval()(x)
# note: Both faults are silent. In train mode an image's answer depends on its neighbors, and asking changes the
# note: statistics.
