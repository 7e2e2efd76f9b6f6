"""Six small drawings, one for each family of feature distillation: what is compared, and what is not."""
from drawing import Drawing, blue, filled, green, on, orange, part_colors, purple

active = [  # how active three channels are at each of nine positions
    [.2, .5, .2, .6, 1, .5, .2, .8, .3],
    [.1, .3, .7, .2, .9, .8, .1, .4, .9],
    [.8, .4, .1, .9, .3, .2, .7, .6, .2]]

def cells(d, x, y, values, color, size=18, per_row=3):
    "A map as squares; the stronger, the fuller"
    for i, value in enumerate(values):
        row, column = divmod(i, per_row)
        left, top = x + column*size, y + row*size
        opacity = round(.12 + .88*value, 2)
        d.add('rect', x=left, y=top, width=size - 2, height=size - 2, rx=3, fill=color, fill_opacity=opacity)

def maps(d, x, y, color, label, n=3):
    "A tap: a few channels, one behind the other"
    for k in reversed(range(n)):
        left, top = x + 16*k, y - 12*k
        d.add('rect', x=left - 4, y=top - 4, width=62, height=62, rx=8,
              fill='var(--paper)', stroke=color, stroke_width=1.5)
        cells(d, left, top, active[k % 3], color)
    d.words(x + 40, y + 82, label, 'tiny soft')

def adapter(d, shape, color):
    "The trapezoid that stands for an adapter; `shape`: its path"
    d.add('path', d=shape, fill=color, fill_opacity=.34, stroke=color, stroke_width=2)

def card(name, title, alt): return Drawing(f'family_{name}', title, alt, height=240)

def fitnets():
    d = card('fitnets', 'FitNets: the values themselves, through an adapter',
        "The student's tap, a stack of maps, passes through an adapter, a 1x1 convolution, "
        "and is compared with the teacher's tap value by value. "
        'Nothing is thrown away: every channel at every position counts.')
    maps(d, 90, 122, green, "student's tap, 2 channels", 2)
    d.arrow((190, 148), (262, 148))
    adapter(d, 'M272,118 l44,-16 v92 l-44,-16 z', green)
    d.words(294, 154, '*a*')
    d.arrow((322, 148), (382, 148))
    maps(d, 400, 122, green, 'adapted, 3 channels')
    d.arrow((512, 148), (560, 148))
    d.pill(640, 148, 140, 'each value')
    d.arrow((782, 148), (720, 148))
    maps(d, 800, 122, blue, "teacher's tap, the hint")
    return d

def attention():
    d = card('attention', 'Attention transfer: where a stage is active, summed over channels',
        "Each network's tap is squared and summed over its channels, which leaves one map of positions. "
        'The two maps are scaled to length one and compared. '
        'Which channel was active is forgotten, so no adapter is needed.')
    maps(d, 90, 122, orange, "student's tap", 2)
    maps(d, 880, 122, blue, "teacher's tap")
    summed_map(d, 300, orange)
    summed_map(d, 700, blue)
    d.arrow((190, 148), (288, 148))
    d.words(240, 136, 'Σ of squares', 'tiny soft')
    d.arrow((868, 148), (778, 148))
    d.words(822, 136, 'Σ of squares', 'tiny soft')
    d.arrow((374, 148), (444, 148))
    d.arrow((690, 148), (620, 148))
    d.pill(532, 148, 164, 'each position')
    return d

def summed_map(d, x, color):
    "What is left of a tap once its channels are summed"
    sums = [.5, .5, .3, .6, .9, .7, .4, .7, .6]
    cells(d, x, 118, sums, color, 22)
    d.words(x + 32, 206, 'one map', 'tiny soft')

def relations():
    d = card('relations', 'Similarity and relations: which images of a batch look alike',
        'Each network turns a batch of four images into a table of four by four: '
        'how alike are image i and image j? The two tables are compared. '
        'What the features are is forgotten, only how images relate is kept.')
    students = [1, .4, .5, .3, .4, 1, .2, .5, .5, .2, 1, .4, .3, .5, .4, 1]
    teachers = [1, .7, .2, .1, .7, 1, .3, .2, .2, .3, 1, .8, .1, .2, .8, 1]
    batch(d, 90, [(0, 0), (38, 30), (66, 4), (20, 50)], purple, 'the batch, student')
    batch(d, 900, [(0, 6), (14, 22), (62, 40), (76, 28)], blue, 'the batch, teacher')
    likeness(d, 290, students, purple)
    likeness(d, 704, teachers, blue)
    d.arrow((176, 146), (278, 146))
    d.arrow((880, 146), (806, 146))
    d.arrow((388, 146), (452, 146))
    d.arrow((692, 146), (628, 146))
    d.pill(540, 146, 164, 'each pair')
    return d

def batch(d, x, places, color, label):
    "Four images where a network puts them; `places`: (right, down) from the corner"
    for number, (right, down) in enumerate(places, 1):
        d.add('circle', cx=x + right, cy=120 + down, r=9, fill=color)
        d.words(x + right, 124 + down, str(number), f'tiny bold {on(color)}')
    d.words(x + 38, 206, label, 'tiny soft')

def likeness(d, x, values, color):
    "A table of four by four: how alike two images are to a network"
    cells(d, x, 102, values, color, 22, 4)
    d.words(x + 43, 206, 'how alike are *i* and *j*', 'tiny soft')

def contrast():
    d = card('crd', 'CRD: find your own image among all the others',
        "The student's vector of an image is pulled toward the teacher's vector of the same image "
        "and pushed away from the teacher's vectors of images of other classes, "
        'which are remembered from earlier batches.')
    d.add('circle', cx=330, cy=150, r=13, fill=purple)
    d.words(330, 188, "student's vector of image 7", 'tiny soft')
    d.add('circle', cx=560, cy=112, r=13, fill=blue)
    d.words(560, 92, "teacher's vector of image 7", 'tiny soft')
    d.arrow((348, 147), (540, 116), color=filled)
    d.words(440, 112, 'pulled', 'small bold')
    others = [(720, 190), (790, 138), (860, 186), (900, 120), (970, 166)]
    for x, y in others: d.add('circle', cx=x, cy=y, r=10, fill=blue, fill_opacity=.4)
    d.words(850, 220, 'remembered vectors of other classes', 'tiny soft')
    d.arrow((312, 152), (190, 168), color='var(--soft)', dash='4 5')
    d.words(250, 146, 'pushed', 'small bold')
    return d

def review():
    d = card('review', 'ReviewKD: deep stages answer for the shallow ones too',
        "From the last stage down, each of the student's taps is fused "
        "with what comes from the deeper stages, "
        "and the fused map is compared with the teacher's tap of that stage. "
        'So the gradient of a shallow hint reaches deep stages as well.')
    lefts = [190, 480, 770]   # of the student's stages
    for k, x in enumerate(lefts): fused_stage(d, k, x)
    for k in (1, 0): d.arrow((lefts[k+1] + 30, 128), (lefts[k] + 70, 128))
    for k in (0, 1): d.arrow((lefts[k] + 100, 190), (lefts[k+1] - 8, 190))
    d.words(96, 133, 'fused', 'small soft')
    return d

def fused_stage(d, k, x):
    "A tap of the student, where it is fused, and the teacher's tap beside it"
    color = part_colors[k]
    d.box(x, 170, 96, 40, color, 'solid')
    d.words(x + 48, 195, f"student's *s_{k+1}*", f'tiny {on(color)}')
    d.box(x + 112, 70, 108, 36, color, 'dashed')
    d.words(x + 166, 93, f"teacher's *h_{k+1}*", 'tiny')
    d.add('circle', cx=x + 48, cy=128, r=14, fill='var(--paper)', stroke='var(--soft)', stroke_width=2)
    d.words(x + 48, 133, '+', 'bold')
    d.arrow((x + 48, 168), (x + 48, 149))
    d.arrow((x + 65, 122), (x + 112, 106), color=filled)

def simkd():
    d = card('simkd', "SimKD: one tap, then the teacher's own head",
        "The student's last tap passes through a projector and is compared with the teacher's last tap. "
        "The student keeps the projector and takes the teacher's head as it is, "
        'so no label is used and no head is trained.')
    backbone(d, [70, 180, 290])
    d.arrow((380, 150), (418, 150))
    adapter(d, 'M428,120 l64,-14 v88 l-64,-14 z', green)
    d.words(460, 155, 'project', 'tiny')
    d.arrow((496, 150), (597, 150))
    d.dot(610, 150, green)
    d.arrow((620, 150), (722, 150))
    d.box(732, 126, 120, 48, purple, 'dashed')
    d.words(792, 155, "teacher's head", 'small bold')
    d.arrow((854, 150), (900, 150))
    d.words(950, 155, 'answer', 'small')
    d.arrow((610, 112), (610, 139), color=filled)
    d.pill(610, 96, 190, "teacher's last tap")
    return d

def backbone(d, lefts):
    "Three stages of the student in a row"
    for k, x in enumerate(lefts):
        d.box(x, 128, 88, 44, part_colors[k], 'solid')
        d.words(x + 44, 154, f'stage {k+1}', f'small bold {on(part_colors[k])}')
        if k < 2: d.arrow((x + 90, 150), (x + 103, 150))
    d.words(224, 206, "student's backbone", 'tiny soft')

families = [fitnets, attention, relations, contrast, review, simkd]
