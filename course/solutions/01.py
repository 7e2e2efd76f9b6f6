# %% 1.1
guess = 1/2**2/2  # half the channels on both sides of a convolution, half the blocks
# note: Most say a half or a quarter. A convolution has a weight for each pair of channels, so halving the width leaves a
# note: quarter; halving the blocks halves that again. The true share is a little lower, 0.11, for the first convolution of a
# note: stage's first block has the previous stage's channels as its input. Anything within a factor of 1.5 passes, so that
# note: reasoning is enough.

# %% 1.2
def conv_macs(c_in, c_out, k, side):
    "Multiply-adds of one convolution, for one image"
    return c_in*k*k * c_out*side*side
# note: Common mistakes: the number of weights (without the pixels), `side` once instead of squared, multiplications and
# note: additions counted apart. A stride needs no case of its own, since `side` is that of the output.

# %% 1.3
def most_confused(answers, y):
    "The pair of classes that is confused most often: the true one, and what it is taken for"
    wrong = answers != y
    return divmod(torch.bincount(10*y[wrong] + answers[wrong]).argmax().item(), 10)
# note: The tempting solution takes the class that is wrong most often and the wrong answer that is given most often; these
# note: need not belong together, and the check holds one decoy of each kind. A confusion matrix with its diagonal set to 0 is
# note: as good.

# %% 1.4
def student_for(budget):
    "A network with the teacher's stages and at most `budget` multiply-adds an image"
    def cost(width): return tutorial_resnet(width=width, blocks=1).stage_table(torch.zeros(1, 1, 28, 28)).macs.sum()
    width = 1
    while cost(width + 1) <= budget: width += 1
    return tutorial_resnet(width=width, blocks=1)
# note: Cost grows with the square of the width, so a search by ones is fast enough. To waste less, also try
# note: `blocks`. Common mistakes: one fixed network; a budget used to a tenth; two stages, which leaves one stage of the
# note: teacher without a pupil.
